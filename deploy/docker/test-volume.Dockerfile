# For tests: an image that declares a volume. Container runtimes give it a folder on the node's disk, without limit, that
# is not part of the read-only root.
FROM docker.io/library/debian:13.1-slim
RUN mkdir -m 0777 /data
VOLUME /data
