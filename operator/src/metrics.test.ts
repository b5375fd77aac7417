import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { ControllerMetrics } from './controller/index.ts';
import { DrillMetrics } from './drill/metrics.ts';
import { KeeperMetrics } from './evaluation/event-keeper.ts';
import { DomainMetrics } from './evaluation/metrics.ts';
import { KubeMetrics } from './kube/index.ts';
import { SuiteMetrics } from './suite/metrics.ts';

const document = readFileSync(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');
const none = () => [];

function ours(): { name: string; labels: string[] }[] {
  const registry = new Registry();
  for (const Metrics of [ControllerMetrics, DrillMetrics, KeeperMetrics, KubeMetrics]) new Metrics(registry);
  new DomainMetrics(registry, () => undefined, none);
  new SuiteMetrics(registry, none);
  return (registry.getMetricsAsArray() as unknown as { name: string; labelNames: string[] }[]).map(({ name, labelNames }) => ({ name, labels: [...labelNames].sort() }));
}

it('are all in the document, and the document has no others', () => {
  const names = ours().map(({ name }) => name).filter((name) => name.startsWith('crucible_'));
  const documented = [...document.matchAll(/^\| (.+?) \|/gm)].flatMap(([, cell = '']) => [...cell.matchAll(/`(crucible_[a-z_]+)`/g)].map(([, name]) => name));
  expect(documented.toSorted()).toEqual(names.toSorted());
});

it('have labels with few values: no name or uid of anything that users make', () => {
  const few = ['class', 'code', 'controller', 'lease', 'name', 'outcome', 'phase', 'reason', 'resource', 'result', 'verb'];
  for (const { name, labels } of ours()) {
    expect(few, name).toEqual(expect.arrayContaining(labels));
    // Of a queue, as controller-runtime has it.
    if (labels.includes('name')) expect(name).toMatch(/^workqueue_/);
  }
});

it('of queue and reconciler are called as controller-runtime calls them', () => {
  const names = ours().map(({ name }) => name).filter((name) => !name.startsWith('crucible_'));
  const queue = ['adds_total', 'depth', 'longest_running_processor_seconds', 'queue_duration_seconds', 'retries_total', 'unfinished_work_seconds', 'work_duration_seconds'];
  const reconciler = ['active_workers', 'max_concurrent_reconciles', 'reconcile_errors_total', 'reconcile_time_seconds', 'reconcile_total', 'terminal_reconcile_errors_total'];
  expect(names.toSorted()).toEqual([...reconciler.map((name) => `controller_runtime_${name}`), ...queue.map((name) => `workqueue_${name}`)]);
});
