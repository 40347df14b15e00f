# syntax=docker/dockerfile:1
# In production pin both images by digest: a tag can be moved, a digest cannot.

FROM node:24-bookworm-slim AS build
# The compiler stays in this stage; what runs has neither compiler nor shell.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends cmake g++ make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The versions and hashes of the lockfile, and nothing else.
RUN npm ci \
  && npm pack \
  && mkdir /app \
  && tar --extract --gzip --file dekd-*.tgz --directory /app --strip-components=1
# What the package needs to run, from the same lockfile, and no script of any dependency.
RUN npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  && mv node_modules /app/

# No shell, no package manager; the official Node executable, whose OpenSSL the addon uses.
FROM gcr.io/distroless/nodejs24-debian12:nonroot
LABEL org.opencontainers.image.title="dekd" org.opencontainers.image.licenses="Apache-2.0"
# Owned by root and not writable by the agent: it cannot change its own code.
COPY --from=build --chown=0:0 /app /app
# The addon or nothing: a fallback would put keys on the JavaScript heap.
ENV DEKD_ENGINE=native NODE_ENV=production
# Not root, and not 65534 either, which the agent refuses as the uid that the kernel gives to strangers.
USER 65532:65532
# --disable-sigusr1: no inspector by signal, which would open the process that holds the keys.
# --disallow-code-generation-from-strings: no eval, so that a string never becomes code.
ENTRYPOINT ["/nodejs/bin/node", "--disable-sigusr1", "--disallow-code-generation-from-strings", "/app/dist/cli/main.js"]
CMD ["run"]
