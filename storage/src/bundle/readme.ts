/** README.txt of every bundle: constant, so that the archive depends on the record alone. */
export const BUNDLE_README = `Evidence bundle of one evaluation, format crucible-bundle/1.

evaluation.json              what it was, how it ended, and why
spec.json                    the spec, as it was admitted
events/NNNNNN.jsonl          what happened, in order, one event a line
attempts/N/attempt.json      Job, pod, node, image and digest, exit code, verdict
attempts/N/capture.json      ledger: bytes, lines, gaps, truncated, complete, sha256
attempts/N/receipt.json      its containment: what the launcher measured (claimed by the sandbox) beside what Kubernetes says
attempts/N/summary.json      what the launcher counted (claimed by the sandbox)
attempts/N/stdout, stderr    what the code wrote: untrusted bytes
attempts/N/artifacts.json    names, sizes and hashes of artifacts: untrusted names
artifacts/SHA256             their contents, under their hashes: untrusted bytes
manifest.json                name, size and sha256 of everything above; what is missing, and why
manifest.sig                 Ed25519 signature of manifest.json, 64 bytes

To check it you need the installation's public key, which must not come from here:

    node verify-bundle.ts BUNDLE.tar public.pem

or, with nothing but openssl, tar, sed and sha256sum, in an empty directory:

    tar -xf BUNDLE.tar
    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in manifest.json -sigfile manifest.sig
    entry='s/^ *{"name":"\\([^"]*\\)","size":[0-9]*,"sha256":"\\([0-9a-f]*\\)"},*$'
    sed -n "$entry/\\2  \\1/p" manifest.json | sha256sum --check --strict
    { sed -n "$entry/\\1/p" manifest.json; echo manifest.json; echo manifest.sig; } | diff - <(tar -tf BUNDLE.tar)
`;
