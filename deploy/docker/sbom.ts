// The bill of materials of an image, CycloneDX JSON on standard output: node deploy/docker/sbom.ts NAME TAG ARCHIVE
//
// From what is in the image itself where it says so (Debian's packages, in dpkg's database), and from the lock files of
// what was compiled into it (npm packages of a bundle, as `npm sbom` lists them; modules of the launcher).
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const MAX_BUFFER = 256 * 1024 * 1024;

export interface Component {
  readonly type: string;
  readonly name: string;
  readonly group?: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses?: unknown;
  readonly hashes?: unknown;
}

function run(command: string, ...args: string[]): Buffer {
  return execFileSync(command, args, { cwd: root, maxBuffer: MAX_BUFFER, stdio: ['ignore', 'pipe', 'ignore'] });
}

/** npm workspaces that are bundled into an image. */
const WORKSPACES: Readonly<Record<string, readonly string[]>> = { operator: ['operator', 'storage', 'crds'], api: ['api', 'operator', 'storage', 'crds'] };

/** The last version of each of these files over the layers of an image archive (as `docker save` writes it). */
function filesOf(archive: string, paths: readonly string[]): Map<string, Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'crucible-sbom-'));
  try {
    run('tar', '-xf', archive, '-C', directory);
    const [image] = JSON.parse(readFileSync(join(directory, 'manifest.json'), 'utf8')) as { Layers: string[] }[];
    const found = new Map<string, Buffer>();
    for (const layer of (image?.Layers ?? []).map((name) => join(directory, name))) {
      const names = run('tar', '-tf', layer).toString().split('\n');
      for (const path of paths) {
        const name = names.find((each) => each.replace(/^\.?\//, '') === path);
        if (name !== undefined) found.set(path, run('tar', '-xOf', layer, name));
      }
    }
    return found;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Debian's packages, from dpkg's database. */
export function debianPackages(status: string, distribution?: string): Component[] {
  return status
    .split('\n\n')
    .map((entry) => new Map([...entry.matchAll(/^([A-Za-z-]+): (.*)$/gm)].map(([, key, value]) => [key, value ?? ''])))
    .filter((fields) => fields.has('Package') && / installed$/.test(fields.get('Status') ?? ''))
    .map((fields) => ['Package', 'Version', 'Architecture'].map((key) => fields.get(key) ?? ''))
    .map(([Package = '', Version = '', Architecture = '']) => ({
      type: 'library',
      name: Package,
      version: Version,
      purl: `pkg:deb/debian/${Package}@${encodeURIComponent(Version)}?arch=${Architecture}${distribution ? `&distro=debian-${distribution}` : ''}`,
    }));
}

/** Modules that a go.mod requires, or, in the words of `go version -m`, those that a program was made of. */
export function goModules(text: string): Component[] {
  const modules = [...text.matchAll(/^\s*(?:require |dep\s+)?([a-z0-9.-]+\.[a-z]+\/\S+)\s+(v\S+)/gm)];
  const toolchain = /: go(\d\S*)/.exec(text)?.[1];
  return [
    ...modules.map(([, name = '', version = '']) => ({ type: 'library', name, version, purl: `pkg:golang/${name}@${version}` })),
    ...(toolchain === undefined ? [] : [{ type: 'library', name: 'stdlib', version: toolchain, purl: `pkg:golang/stdlib@${toolchain}` }]),
  ];
}

/** The program itself knows best; without Go to ask it, its go.mod does. */
function launcherModules(launcher: Buffer): Component[] {
  const directory = mkdtempSync(join(tmpdir(), 'crucible-sbom-'));
  try {
    const file = join(directory, 'launcher');
    writeFileSync(file, launcher);
    return goModules(run('go', 'version', '-m', file).toString());
  } catch {
    return goModules(readFileSync(join(root, 'operator/launcher/go.mod'), 'utf8'));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function npmPackages(workspaces: readonly string[]): Component[] {
  const chosen = workspaces.flatMap((name) => ['-w', name]);
  const text = run('npm', 'sbom', '--sbom-format', 'cyclonedx', '--omit', 'dev', '--package-lock-only', ...chosen).toString();
  const { components } = JSON.parse(text) as { components: Component[] };
  const unique = new Map(components.map(({ type, name, group, version, purl, licenses, hashes }) => [
    purl, { type, name, ...(group !== undefined && { group }), version, purl, licenses, hashes },
  ]));
  return [...unique.values()];
}

/** Reproducible: nothing in it depends on when it was made. */
export function document(name: string, tag: string, components: readonly Component[]): object {
  const sorted = components.toSorted((a, b) => (a.purl < b.purl ? -1 : 1));
  const hex = createHash('sha256').update(JSON.stringify([name, tag, sorted])).digest('hex');
  const uuid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    serialNumber: `urn:uuid:${uuid}`,
    version: 1,
    metadata: { component: { type: 'container', 'bom-ref': 'image', name: `docker.io/crucible/${name}`, version: tag } },
    components: sorted.map((component) => ({ 'bom-ref': component.purl, ...component })),
  };
}

export function billOfMaterials(name: string, tag: string, archive: string): object {
  const [dpkg, release, node, launchers] = [
    'var/lib/dpkg/status', 'etc/debian_version', 'usr/local/bin/node', ['launcher', 'crucible/bin/launcher'],
  ] as const;
  const files = filesOf(archive, [dpkg, release, node, ...launchers]);
  const components: Component[] = [];
  const status = files.get(dpkg);
  if (status !== undefined) components.push(...debianPackages(status.toString(), files.get(release)?.toString().trim()));
  if (files.has(node)) {
    const version = readFileSync(join(root, '.nvmrc'), 'utf8').replace(/[v\s]/g, '');
    components.push({ type: 'application', name: 'node', version, purl: `pkg:generic/node@${version}` });
  }
  const workspaces = WORKSPACES[name];
  if (workspaces !== undefined) components.push(...npmPackages(workspaces));
  const launcher = launchers.map((path) => files.get(path)).find((content) => content !== undefined);
  if (launcher !== undefined) components.push(...launcherModules(launcher));
  return document(name, tag, components);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, tag, archive] = process.argv.slice(2);
  if (name === undefined || tag === undefined || archive === undefined) {
    console.error('usage: node sbom.ts NAME TAG ARCHIVE');
    process.exit(2);
  }
  process.stdout.write(`${JSON.stringify(billOfMaterials(name, tag, archive), null, 1)}\n`);
}
