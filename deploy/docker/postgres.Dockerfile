# The embedded PostgreSQL: Debian's package and an entrypoint of our own. One volume (PGDATA), passwords from mounted
# files, TLS when a certificate is mounted, no root, root filesystem read-only (/tmp and /var/run/postgresql are tmpfs).
FROM docker.io/library/debian:13.1-slim
# The uid is fixed because it owns the files of a volume that outlives the image. What only the just-in-time compiler
# and the cluster management scripts need is purged: 200 MB of LLVM and Perl that nothing here runs.
RUN groupadd --gid 10003 postgres \
 && useradd --uid 10003 --gid 10003 --home-dir /var/lib/postgresql --no-create-home --shell /usr/sbin/nologin postgres \
 && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql-17 \
 && dpkg --purge --force-depends libllvm19 libz3-4 perl perl-modules-5.40 libperl5.40 locales libc-l10n ssl-cert openssl \
      libjson-perl libipc-run-perl libio-pty-perl libtext-wrapi18n-perl libtext-charwidth-perl postgresql-common-dev \
 && rm -rf /usr/lib/postgresql/17/lib/bitcode /usr/lib/postgresql/17/lib/llvmjit* /var/lib/apt/lists/* /var/cache/apt/* \
      /var/log/apt /var/log/dpkg.log /etc/ssl/private /usr/share/postgresql/17/man \
 && mkdir -p /var/lib/postgresql/data /var/run/postgresql \
 && chown -R 10003:10003 /var/lib/postgresql /var/run/postgresql && chmod 0700 /var/lib/postgresql/data \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY deploy/docker/postgres/entrypoint.sh /usr/local/bin/entrypoint.sh
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin
USER 10003:10003
EXPOSE 5432
# PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh", "/usr/local/bin/entrypoint.sh"]
