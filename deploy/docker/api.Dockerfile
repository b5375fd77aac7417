# The API. One bundle, with what few installations need in files beside it; no node_modules, no npm.
FROM docker.io/library/node:24.21.0-trixie-slim AS build
# Set by build.sh where an intercepting proxy's certificate authority has to be trusted; empty otherwise.
ARG NODE_EXTRA_CA_CERTS
WORKDIR /src
COPY package.json package-lock.json ./
COPY crds/package.json crds/
COPY storage/package.json storage/
COPY operator/package.json operator/
COPY api/package.json api/
COPY api/client/package.json api/client/
COPY api/cli/package.json api/cli/
COPY test/package.json test/
# Few connections and quick retries: registries and proxies drop some of a burst.
RUN npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --maxsockets=6 \
      --fetch-timeout=60000 --fetch-retries=5 --fetch-retry-mintimeout=1000
COPY crds/src crds/src
COPY storage/src storage/src
# Plans are made by the operator's own functions, and the cluster is reached by its client.
COPY operator/src operator/src
COPY api/src api/src
# Dependencies that are CommonJS call require(): an ES module has none of its own. pg-native is optional and not used.
# Names stay as they are, comments and indentation do not: V8 keeps the text of a program, two bytes for each character as
# soon as one comment has a dash that is not ASCII.
RUN ./node_modules/.bin/esbuild api=api/src/main.ts \
      --bundle --splitting --minify-whitespace --platform=node --target=node24 --format=esm --outdir=/app --out-extension:.js=.mjs --external:pg-native \
      --sourcemap=linked --sources-content=false --legal-comments=external --log-level=warning \
      --banner:js="import { createRequire as createRequireForBundle } from 'node:module'; const require = createRequireForBundle(import.meta.url);"

FROM docker.io/library/debian:13.1-slim
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app /app
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# A small young generation: what thousands of event streams leave behind is collected soon, and not moved among the old.
# No --enable-source-maps: the map is read at start and takes 25 MiB. It lies beside the bundle, whose functions keep their names.
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=4
WORKDIR /app
USER 10005:10005
EXPOSE 8443 8080
ENTRYPOINT ["node", "/app/api.mjs"]
