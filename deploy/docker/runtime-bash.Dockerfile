# The runtime "bash": bash and the core utilities of Debian.
# Untrusted code runs in it, so nothing in it is setuid and it carries the launcher (PID 1 of every sandbox) itself.
ARG LAUNCHER_IMAGE=docker.io/crucible/launcher:latest
FROM ${LAUNCHER_IMAGE} AS launcher

FROM docker.io/library/debian:13.1-slim
COPY --from=launcher /launcher /crucible/bin/launcher
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && mkdir -p /work /crucible/code /crucible/config \
 && mkdir -m 0700 /crucible/bin/.sealed && touch /crucible/bin/.sealed/message
WORKDIR /work
USER 65532:65532
ENTRYPOINT ["/crucible/bin/launcher"]
