import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { renderChart } from './chart.ts';
import type { Manifest } from './chart.ts';

// deploy/gitops is copied by people: what it says of the chart must be true of the chart.

const EXAMPLES = resolve(import.meta.dirname, '../../deploy/gitops');
const folder = mkdtempSync(join(tmpdir(), 'gitops-'));
afterAll(() => rmSync(folder, { recursive: true }));

function example(file: string, kind: string, name: string): Manifest {
  const all = parseAllDocuments(readFileSync(join(EXAMPLES, file), 'utf8')).map((document) => document.toJS() as Manifest);
  return all.find((one) => one.kind === kind && one.metadata.name === name)!;
}

/** values.schema.json refuses what the chart does not know. */
function rendered(values: object): Manifest[] {
  const file = join(folder, 'values.yaml');
  writeFileSync(file, stringify(values));
  return renderChart('--values', file);
}

const argo = example('argocd/applications.yaml', 'Application', 'crucible');
const flux = example('flux/crucible.yaml', 'HelmRelease', 'crucible');

test('the values for Argo CD leave nothing to chance: rendered again it is the same, so that it is never out of sync', () => {
  const values = argo['spec'].source.helm.valuesObject as object;
  const first = rendered(values);
  expect(first.length).toBeGreaterThan(50);
  expect(rendered(values)).toEqual(first);
  const { group, kind, name } = argo['spec'].ignoreDifferences[0];
  expect(first.filter(({ kind: is, metadata }) => is === kind && metadata.name === name)).not.toEqual([]);
  expect(group).toBe('');
});

test('the values for Flux are the chart’s, and what it waits for is what the chart makes', () => {
  const manifests = rendered(flux['spec'].values as object);
  const ready = example('flux/evaluations.yaml', 'Kustomization', 'crucible-ready');
  const [release, operator] = ready['spec'].healthChecks as Manifest[];
  expect(release).toMatchObject({ kind: 'HelmRelease', ...flux.metadata });
  expect(manifests.filter(({ kind, metadata }) => kind === operator!.kind && metadata.name === operator!['name'])).toHaveLength(1);
  expect([operator!['namespace'], flux['spec'].releaseName]).toEqual([flux['spec'].targetNamespace, 'crucible']);
});

test.each(['argocd/applications.yaml:Application', 'flux/evaluations.yaml:Kustomization'])('evaluations of %s are never replaced by force', (where) => {
  const [file = '', kind = ''] = where.split(':');
  const { spec } = example(file, kind, 'evaluations') as Manifest & { spec: any };
  expect(JSON.stringify(spec)).not.toMatch(/Replace=true|Force=true|"force":true/);
  expect(spec.prune ?? spec.syncPolicy.automated.prune).toBe(true);
});
