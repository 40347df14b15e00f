{{/*
Named templates. Each is given the root context of the application's chart (`.`), reads `.Values.dekd`, and starts at column 0:
`include … . | nindent N`.

  dekd.sidecar           one item of initContainers
  dekd.volumes           items of volumes
  dekd.podSecurity       fields of the pod's securityContext
  dekd.socketMount       one item of volumeMounts of the application's container
  dekd.socketVariable    one item of env of the application's container
  dekd.configMap         a ConfigMap, a document of its own
  dekd.networkPolicy     a NetworkPolicy of the pods with the given labels: dict "root" . "labels" (dict …)
  dekd.checksum          an annotation that restarts pods when the configuration changes
*/}}

{{- define "dekd.image" -}}
{{- with .Values.dekd.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default "0.1.0" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "dekd.configName" -}}
{{ printf "%s-dekd" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "dekd.configText" -}}
{{- $admin := dict "host" "0.0.0.0" "port" (int .Values.dekd.adminPort) -}}
{{ merge (dict "admin" $admin) .Values.dekd.config | toYaml }}
{{- end -}}

{{- define "dekd.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "dekd.configName" . }}
  labels:
    app.kubernetes.io/name: dekd
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
data:
  config.yaml: |
    {{- include "dekd.configText" . | nindent 4 }}
{{- end -}}

{{- define "dekd.checksum" -}}
dekd/config: {{ include "dekd.configText" . | sha256sum }}
{{- end -}}

{{- define "dekd.podSecurity" -}}
runAsNonRoot: true
fsGroup: {{ int64 .Values.dekd.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "dekd.sidecar" -}}
- name: dekd
  image: {{ include "dekd.image" . }}
  imagePullPolicy: {{ .Values.dekd.image.pullPolicy }}
  restartPolicy: Always
  args: [run, --config=/etc/dekd/config.yaml]
  env:
    - { name: DEKD_SOCKET, value: /run/dekd/pod/agent.sock }
  ports:
    - { name: dekd-probes, containerPort: {{ int .Values.dekd.adminPort }} }
  startupProbe:
    httpGet: { path: /startupz, port: dekd-probes }
    periodSeconds: 1
    failureThreshold: 60
  readinessProbe:
    httpGet: { path: /readyz, port: dekd-probes }
    periodSeconds: 5
  livenessProbe:
    httpGet: { path: /livez, port: dekd-probes }
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  securityContext:
    runAsUser: {{ int64 .Values.dekd.uid }}
    runAsGroup: {{ int64 .Values.dekd.uid }}
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL] }
    seccompProfile: { type: RuntimeDefault }
  resources:
    {{- toYaml .Values.dekd.resources | nindent 4 }}
  volumeMounts:
    - { name: dekd-run, mountPath: /run/dekd }
    - { name: dekd-config, mountPath: /etc/dekd/config.yaml, subPath: config.yaml, readOnly: true }
    {{- range $folder, $secret := .Values.dekd.secrets }}
    - { name: dekd-{{ $folder }}, mountPath: /etc/dekd/{{ $folder }}, readOnly: true }
    {{- end }}
{{- end -}}

{{- define "dekd.volumes" -}}
- name: dekd-run
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: dekd-config
  configMap: { name: {{ include "dekd.configName" . }} }
{{- range $folder, $secret := .Values.dekd.secrets }}
- name: dekd-{{ $folder }}
  secret: { secretName: {{ $secret }}, defaultMode: 0440 }
{{- end }}
{{- end -}}

{{- define "dekd.socketMount" -}}
- { name: dekd-run, mountPath: /run/dekd, readOnly: true }
{{- end -}}

{{- define "dekd.socketVariable" -}}
- { name: DEKD_SOCKET, value: /run/dekd/pod/agent.sock }
{{- end -}}

{{- define "dekd.networkPolicy" -}}
{{- $port := int .root.Values.dekd.adminPort -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "dekd.configName" .root }}
spec:
  podSelector:
    matchLabels:
      {{- toYaml .labels | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        - { protocol: TCP, port: 1, endPort: {{ sub $port 1 }} }
        {{- if lt $port 65535 }}
        - { protocol: TCP, port: {{ add $port 1 }}, endPort: 65535 }
        {{- end }}
        - { protocol: UDP, port: 1, endPort: 65535 }
    - from:
        - namespaceSelector:
            matchLabels: { kubernetes.io/metadata.name: {{ .root.Values.dekd.metricsNamespace }} }
      ports:
        - { protocol: TCP, port: {{ $port }} }
{{- end -}}
