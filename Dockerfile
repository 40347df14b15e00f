# syntax=docker/dockerfile:1
# For linux/amd64 and linux/arm64. Both base images are pinned by the digest of their index, because a tag can be moved and a digest
# cannot. To take newer ones: `docker buildx imagetools inspect IMAGE:TAG` says the digest of today; release.yml refuses one that is no
# index of both platforms.

FROM node:24.21.0-bookworm-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6 AS build
# The compiler stays in this stage; what runs has neither compiler nor shell.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends cmake g++ make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The versions and hashes of the lockfile and nothing else, and no script of any dependency.
COPY package.json package-lock.json ./
COPY native/node-runtime native/node-runtime/
COPY native/hsm-binding native/hsm-binding/
COPY tools/api-docs tools/api-docs/
RUN npm ci --ignore-scripts
COPY . .
# Addon and dist/, as they are published.
RUN npm pack \
  && mkdir /app \
  && tar --extract --gzip --file dekd-*.tgz --directory /app --strip-components=1
# What the package needs to run, from the same lockfile, and the list of it. pg, an optional peer of the package, is for keystore
# postgres.
RUN npm pkg set "dependencies.pg=$(npm pkg get devDependencies.pg | tr -d '"')" \
  && npm pkg delete devDependencies.pg \
  && npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  && node native/sbom.mjs /app/sbom.cdx.json \
  && mv node_modules /app/
RUN install --directory --mode=0750 /folders/run && install --directory --mode=0700 /folders/state

# glibc, libstdc++ and certificates: no shell, no package manager. Node comes from the stage above rather than from an image with one
# of its own, which is some releases behind and not the one that the addon was built and tested with.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f
LABEL org.opencontainers.image.title="dekd" \
  org.opencontainers.image.description="Encryption agent: data keys in locked memory, root keys in a KMS, one Unix socket" \
  org.opencontainers.image.documentation="/app/docs/deploy.md" \
  org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot" \
  org.opencontainers.image.licenses="Apache-2.0"
# The official executable, whose OpenSSL the addon uses, with its licences.
COPY --from=build --chown=0:0 /usr/local/bin/node /nodejs/bin/node
COPY --from=build --chown=0:0 /usr/local/LICENSE /nodejs/LICENSE
# Owned by root and not writable by the agent: it cannot change its own code.
COPY --from=build --chown=0:0 /app /app
# For the socket and for what must outlive the agent; a named volume that is mounted there takes over the owner. They are no
# VOLUME: a keystore in a volume that nobody named would be lost without a word.
COPY --from=build --chown=65532:65532 /folders/run /run/dekd
COPY --from=build --chown=65532:65532 /folders/state /var/lib/dekd
# The addon or nothing: a fallback would put keys on the JavaScript heap.
ENV DEKD_ENGINE=native NODE_ENV=production
# Not root, and not 65534 either, which the agent refuses as the uid that the kernel gives to strangers. Any other will do.
USER 65532:65532
STOPSIGNAL SIGTERM
# For engines without probes of their own; it costs a second process for a moment, which Kubernetes' probes do not.
HEALTHCHECK --interval=60s --timeout=5s --start-period=15s CMD ["/nodejs/bin/node", "/app/dist/cli/main.js", "health"]
# --disable-sigusr1: no inspector by signal, which would open the process that holds the keys.
# --disallow-code-generation-from-strings: no eval, so that a string never becomes code.
# --max-semi-space-size=4: MiB; the default lets the young heap grow by a hundred under load, over the memory limit of a sidecar.
ENTRYPOINT ["/nodejs/bin/node", "--disable-sigusr1", "--disallow-code-generation-from-strings", "--max-semi-space-size=4", "/app/dist/cli/main.js"]
CMD ["run"]
