# The operator (with a thread of its own for scoring), and in the same image the recorder and the migration: bundles, no
# node_modules, no npm.
#   node /app/operator.mjs    node /app/recorder.mjs    node /app/migrate.mjs    node /app/drill-control.mjs
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
COPY operator/src operator/src
# Dependencies that are CommonJS call require(): an ES module has none of its own. pg-native is optional and not used.
RUN ./node_modules/.bin/esbuild operator=operator/src/main.ts score-worker=operator/src/evaluation/score-worker.ts \
      recorder=operator/src/recorder/main.ts drill-control=operator/src/drill/control/main.ts migrate=storage/src/migrate.ts \
      --bundle --platform=node --target=node24 --format=esm --outdir=/app --out-extension:.js=.mjs --external:pg-native \
      --sourcemap=linked --sources-content=false --legal-comments=external --log-level=warning \
      --banner:js="import { createRequire as createRequireForBundle } from 'node:module'; const require = createRequireForBundle(import.meta.url);"
COPY storage/migrations /app/migrations

FROM docker.io/library/debian:13.1-slim
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app /app
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && mkdir /data && chown 10001:10001 /data
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps
WORKDIR /app
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["node", "/app/operator.mjs"]
