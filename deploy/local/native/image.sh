#!/usr/bin/env bash
# image.sh REFERENCE BINARY: on standard output, a docker archive of an image that is one static program.
set -euo pipefail
reference=$1 binary=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
name=$(basename "$reference" | cut -d: -f1)
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
mkdir "$dir/root"
cp -L "$binary" "$dir/root/$name"
chmod 755 "$dir/root/$name"
deterministic=(--sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner)
tar -C "$dir/root" "${deterministic[@]}" -cf "$dir/layer.tar" "$name"
digest=$(sha256sum "$dir/layer.tar" | cut -d' ' -f1)
cat >"$dir/config.json" <<END
{"architecture":"$arch","os":"linux","config":{"Entrypoint":["/$name"],"User":"65535:65535"},"rootfs":{"type":"layers","diff_ids":["sha256:$digest"]}}
END
echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$reference\"],\"Layers\":[\"layer.tar\"]}]" >"$dir/manifest.json"
tar -C "$dir" "${deterministic[@]}" -cf - manifest.json config.json layer.tar
