// Command cluster judges manifests with the code of the Kubernetes API server itself, without a cluster: strict decoding into its own
// types, Pod Security at "restricted", and the policies of deploy/kubernetes/injection as the admission chain compiles and applies them.
// A chart is rendered with the engine of Helm. JSON on standard input, JSON on standard output.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/google/cel-go/cel"
)

type request struct {
	// Each a document of a manifest.
	Documents []json.RawMessage `json:"documents"`
	// What is asked of the policies: pods that are to be created.
	Injection struct {
		Policy     json.RawMessage   `json:"policy"`
		Parameters json.RawMessage   `json:"parameters"`
		Guard      json.RawMessage   `json:"guard"`
		Pods       []json.RawMessage `json:"pods"`
	} `json:"injection"`
	Charts []struct {
		Folder string                 `json:"folder"`
		Values map[string]interface{} `json:"values"`
	} `json:"charts"`
}

type verdict struct {
	// Why the API server would not decode it.
	Error string `json:"error,omitempty"`
	// What Pod Security forbids, of a document with a pod in it.
	Forbidden []string `json:"forbidden,omitempty"`
}

type injected struct {
	Matched bool        `json:"matched"`
	Pod     *corev1.Pod `json:"pod,omitempty"`
	// Messages of the guard that refuses it.
	Refused []string `json:"refused,omitempty"`
	verdict
}

type rendered struct {
	Files map[string]string `json:"files,omitempty"`
	Error string            `json:"error,omitempty"`
}

type answer struct {
	Documents []verdict  `json:"documents"`
	Pods      []injected `json:"pods"`
	Charts    []rendered `json:"charts"`
}

var scheme = runtime.NewScheme()

func main() {
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, admissionv1.AddToScheme,
	} {
		must(add(scheme))
	}
	var asked request
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	said := answer{Documents: []verdict{}, Pods: []injected{}, Charts: []rendered{}}
	for _, document := range asked.Documents {
		said.Documents = append(said.Documents, judge(document))
	}
	if len(asked.Injection.Pods) > 0 {
		said.Pods = inject(asked)
	}
	for _, each := range asked.Charts {
		said.Charts = append(said.Charts, render(each.Folder, each.Values))
	}
	must(json.NewEncoder(os.Stdout).Encode(said))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// decode is what the API server does with fieldValidation=Strict: an unknown or doubled field is an error.
func decode(document []byte) (runtime.Object, error) {
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	object, _, err := codecs.UniversalDeserializer().Decode(document, nil, nil)
	return object, err
}

func judge(document []byte) verdict {
	object, err := decode(document)
	if err != nil {
		return verdict{Error: err.Error()}
	}
	switch each := object.(type) {
	case *appsv1.Deployment:
		return verdict{Forbidden: forbidden(&each.Spec.Template.ObjectMeta, &each.Spec.Template.Spec)}
	case *corev1.Pod:
		return verdict{Forbidden: forbidden(&each.ObjectMeta, &each.Spec)}
	}
	return verdict{}
}

func forbidden(meta *metav1.ObjectMeta, spec *corev1.PodSpec) []string {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(err)
	found := []string{}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, meta, spec) {
		if !result.Allowed {
			found = append(found, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return found
}

type named struct{ name, expression string }

func (n named) GetName() string          { return n.name }
func (n named) GetExpression() string    { return n.expression }
func (n named) ReturnTypes() []*cel.Type { return []*cel.Type{cel.AnyType, cel.DynType} }

type condition string

func (c condition) GetExpression() string    { return string(c) }
func (c condition) ReturnTypes() []*cel.Type { return []*cel.Type{cel.BoolType} }

// compilerOf has the variables of a policy, in the order in which they are declared.
func compilerOf(variables []admissionv1.Variable, options plugincel.OptionalVariableDeclarations) *plugincel.CompositedCompiler {
	compiler, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	must(err)
	accessors := []plugincel.NamedExpressionAccessor{}
	for _, each := range variables {
		accessors = append(accessors, named{each.Name, each.Expression})
	}
	compiler.CompileAndStoreVariables(accessors, options, environment.StoredExpressions)
	return compiler
}

var (
	podKind     = corev1.SchemeGroupVersion.WithKind("Pod")
	podResource = corev1.SchemeGroupVersion.WithResource("pods")
)

func attributesOf(pod *corev1.Pod) *admission.VersionedAttributes {
	attributes := admission.NewAttributesRecord(
		pod, nil, podKind, "app", pod.Name, podResource, "", admission.Create, &metav1.CreateOptions{}, false, nil,
	)
	return &admission.VersionedAttributes{Attributes: attributes, VersionedKind: podKind, VersionedObject: pod}
}

// holds evaluates conditions about a pod; a condition that fails is its error.
func holds(
	compiler *plugincel.CompositedCompiler, options plugincel.OptionalVariableDeclarations, expressions []string,
	pod *corev1.Pod, parameters runtime.Object,
) ([]bool, error) {
	accessors := []plugincel.ExpressionAccessor{}
	for _, each := range expressions {
		accessors = append(accessors, condition(each))
	}
	compiled := compiler.CompileCondition(accessors, options, environment.StoredExpressions)
	if errors := compiled.CompilationErrors(); len(errors) > 0 {
		return nil, errors[0]
	}
	attributes := attributesOf(pod)
	asked := plugincel.CreateAdmissionRequest(
		attributes.Attributes, metav1.GroupVersionResource(podResource), metav1.GroupVersionKind(podKind),
	)
	bindings := plugincel.OptionalVariableBindings{VersionedParams: parameters}
	results, _, err := compiled.ForInput(
		compiler.CreateContext(context.Background()), attributes, asked, bindings, namespace(), celconfig.RuntimeCELCostBudget,
	)
	if err != nil {
		return nil, err
	}
	said := []bool{}
	for _, each := range results {
		if each.Error != nil {
			return nil, each.Error
		}
		said = append(said, each.EvalResult.Value() == true)
	}
	return said, nil
}

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "app"}}
}

func inject(asked request) []injected {
	object, err := decode(asked.Injection.Policy)
	must(err)
	mutation := object.(*admissionv1.MutatingAdmissionPolicy)
	parameters, err := decode(asked.Injection.Parameters)
	must(err)
	object, err = decode(asked.Injection.Guard)
	must(err)
	guard := object.(*admissionv1.ValidatingAdmissionPolicy)
	said := []injected{}
	for _, document := range asked.Injection.Pods {
		object, err := decode(document)
		must(err)
		said = append(said, admit(mutation, guard, parameters, object.(*corev1.Pod)))
	}
	return said
}

// admit takes a pod the way of the admission chain: match conditions, each mutation in turn, then the guard.
func admit(
	mutation *admissionv1.MutatingAdmissionPolicy, guard *admissionv1.ValidatingAdmissionPolicy, parameters runtime.Object,
	pod *corev1.Pod,
) injected {
	options := plugincel.OptionalVariableDeclarations{HasParams: true, HasAuthorizer: true}
	compiler := compilerOf(mutation.Spec.Variables, options)
	said := injected{Matched: true}
	for _, each := range mutation.Spec.MatchConditions {
		matches, err := holds(compiler, options, []string{each.Expression}, pod, parameters)
		if err != nil {
			return injected{verdict: verdict{Error: each.Name + ": " + err.Error()}}
		}
		said.Matched = said.Matched && matches[0]
	}
	if said.Matched {
		mutated, err := mutate(mutation, compiler, options, parameters, pod)
		if err != nil {
			return injected{Matched: true, verdict: verdict{Error: err.Error()}}
		}
		pod = mutated
	}
	said.Pod = pod
	said.Forbidden = forbidden(&pod.ObjectMeta, &pod.Spec)
	refused, err := refusals(guard, pod)
	if err != nil {
		said.Error = "guard: " + err.Error()
	}
	said.Refused = refused
	return said
}

func mutate(
	mutation *admissionv1.MutatingAdmissionPolicy, compiler *plugincel.CompositedCompiler,
	options plugincel.OptionalVariableDeclarations, parameters runtime.Object, pod *corev1.Pod,
) (*corev1.Pod, error) {
	options.HasPatchTypes = true
	for index, each := range mutation.Spec.Mutations {
		if each.PatchType != admissionv1.PatchTypeJSONPatch {
			return nil, fmt.Errorf("mutation %d is of another type", index)
		}
		accessor := &patch.JSONPatchCondition{Expression: each.JSONPatch.Expression}
		compiled := compiler.CompileMutatingEvaluator(accessor, options, environment.StoredExpressions)
		if errors := compiled.CompilationErrors(); len(errors) > 0 {
			return nil, fmt.Errorf("mutation %d: %w", index, errors[0])
		}
		result, err := patch.NewJSONPatcher(compiled).Patch(compiler.CreateContext(context.Background()), patch.Request{
			MatchedResource:     podResource,
			VersionedAttributes: attributesOf(pod),
			ObjectInterfaces:    admission.NewObjectInterfacesFromScheme(scheme),
			OptionalVariables:   plugincel.OptionalVariableBindings{VersionedParams: parameters},
			Namespace:           namespace(),
		}, celconfig.RuntimeCELCostBudget)
		if err != nil {
			return nil, fmt.Errorf("mutation %d: %w", index, err)
		}
		text, err := json.Marshal(result)
		if err != nil {
			return nil, err
		}
		// Strictly: a patch that writes a field that no pod has is an error.
		object, err := decode(withKind(text))
		if err != nil {
			return nil, fmt.Errorf("mutation %d: %w", index, err)
		}
		pod = object.(*corev1.Pod)
	}
	return pod, nil
}

// withKind puts kind and version into an object that Go has typed and so left without.
func withKind(text []byte) []byte {
	fields := map[string]json.RawMessage{}
	must(json.Unmarshal(text, &fields))
	fields["apiVersion"], fields["kind"] = json.RawMessage(`"v1"`), json.RawMessage(`"Pod"`)
	delete(fields, "status")
	whole, err := json.Marshal(fields)
	must(err)
	return whole
}

func refusals(guard *admissionv1.ValidatingAdmissionPolicy, pod *corev1.Pod) ([]string, error) {
	options := plugincel.OptionalVariableDeclarations{HasAuthorizer: true}
	compiler := compilerOf(guard.Spec.Variables, options)
	for _, each := range guard.Spec.MatchConditions {
		matches, err := holds(compiler, options, []string{each.Expression}, pod, nil)
		if err != nil || !matches[0] {
			return nil, err
		}
	}
	found := []string{}
	for _, each := range guard.Spec.Validations {
		holding, err := holds(compiler, options, []string{each.Expression}, pod, nil)
		if err != nil {
			return nil, err
		}
		if !holding[0] {
			found = append(found, each.Message)
		}
	}
	return found, nil
}

// render is `helm template`, with the schema of each chart checked, as Helm does before it renders.
func render(folder string, values map[string]interface{}) rendered {
	chart, err := loader.Load(folder)
	if err != nil {
		return rendered{Error: err.Error()}
	}
	if err := chartutil.ProcessDependencies(chart, values); err != nil {
		return rendered{Error: err.Error()}
	}
	release := chartutil.ReleaseOptions{Name: "app", Namespace: "app", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return rendered{Error: err.Error()}
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return rendered{Error: err.Error()}
	}
	return rendered{Files: files}
}
