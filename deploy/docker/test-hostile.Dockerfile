# For tests: an image as a hostile or careless author builds it. It runs as root unless told otherwise, has a setuid
# program, and what it calls the launcher starts nothing and does not end when asked.
FROM docker.io/library/debian:13.1-slim
RUN install -m 4755 /usr/bin/id /usr/bin/setuid-id \
 && mkdir -p /crucible/bin /crucible/code /crucible/config /work \
 && printf '#!/bin/sh\ntrap "" TERM INT HUP\necho "1 o|hanging"\nwhile :; do sleep 1; done\n' > /crucible/bin/launcher \
 && chmod 0755 /crucible/bin/launcher
USER 0:0
ENTRYPOINT ["/crucible/bin/launcher"]
