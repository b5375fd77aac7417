# The launcher: one static binary, PID 1 of every sandbox. The runtime images copy it; for any other image an init
# container of this one puts it into the sandbox (`launcher install`).
FROM docker.io/library/debian:13.1-slim AS build
# Set by build.sh where an intercepting proxy's certificate authority has to be trusted; empty otherwise.
ARG SSL_CERT_FILE
RUN apt-get update && apt-get install -y --no-install-recommends golang-go ca-certificates
WORKDIR /src
COPY operator/launcher/ ./
RUN CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false go build -trimpath -ldflags "-s -w" -o /out/launcher .

FROM scratch
COPY --from=build /out/launcher /launcher
USER 65532:65532
ENTRYPOINT ["/launcher"]
