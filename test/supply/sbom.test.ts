import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { billOfMaterials, goModules } from '../../deploy/docker/sbom.ts';

const directory = mkdtempSync(join(tmpdir(), 'crucible-sbom-test-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const entry = (name: string, version: string, state = 'install ok installed'): string =>
  `Package: ${name}\nStatus: ${state}\nArchitecture: amd64\nVersion: ${version}\nDescription: short\n long\n`;

/** An image as `docker save` writes it, of layers with a few files each. */
function archive(...layers: Record<string, string>[]): string {
  const names = layers.map((files, at) => {
    const layer = join(directory, `layer${at}`);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(layer, path, '..'), { recursive: true });
      writeFileSync(join(layer, path), content);
    }
    execFileSync('tar', ['-cf', join(directory, `${at}.tar`), '-C', layer, '.']);
    return `${at}.tar`;
  });
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify([{ Layers: names }]));
  const file = join(directory, 'image.tar');
  execFileSync('tar', ['-cf', file, '-C', directory, 'manifest.json', ...names]);
  return file;
}

test('lists what the last layer says is installed, once, and the same every time', () => {
  const status = [entry('bash', '5.2-1'), entry('gone', '1', 'deinstall ok config-files')].join('\n');
  const image = archive(
    { 'var/lib/dpkg/status': entry('old', '1'), 'etc/debian_version': '13.1\n' },
    { 'var/lib/dpkg/status': status, 'usr/local/bin/node': 'x' },
  );
  const bill = billOfMaterials('runtime-node', '1', image) as { components: { purl: string }[]; serialNumber: string };
  expect(bill.components.map(({ purl }) => purl)).toEqual([
    'pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-13.1',
    expect.stringMatching(/^pkg:generic\/node@24\./),
  ]);
  expect(bill.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(billOfMaterials('runtime-node', '1', image)).toEqual(bill);
});

test('reads modules of a go.mod and of a program', () => {
  const module = { name: 'golang.org/x/sys', version: 'v0.35.0' };
  expect(goModules('module a\n\ngo 1.24\n\nrequire golang.org/x/sys v0.35.0\n')).toMatchObject([module]);
  expect(goModules('/tmp/launcher: go1.24.4\n\tpath\tcrucible.dev/launcher\n\tdep\tgolang.org/x/sys\tv0.35.0\th1:x=\n')).toMatchObject([
    module, { name: 'stdlib', version: '1.24.4' },
  ]);
});
