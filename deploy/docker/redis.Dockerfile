# The embedded Redis-compatible server: Debian's Valkey. Only speed lives in it, so nothing is persisted by default;
# no root, root filesystem read-only. Arguments go to the server.
FROM docker.io/library/debian:13.1-slim
RUN groupadd --gid 10004 valkey \
 && useradd --uid 10004 --gid 10004 --home-dir /var/lib/valkey --no-create-home --shell /usr/sbin/nologin valkey \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valkey-server \
 && rm -rf /etc/valkey /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/log/valkey \
 && mkdir -p /data && chown 10004:10004 /data \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY deploy/docker/redis/entrypoint.sh /usr/local/bin/entrypoint.sh
WORKDIR /data
USER 10004:10004
EXPOSE 6379
ENTRYPOINT ["/bin/sh", "/usr/local/bin/entrypoint.sh"]
