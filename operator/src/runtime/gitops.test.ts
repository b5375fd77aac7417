import { inTestdata } from '../evaluation/testing/gitops.ts';
import { aRuntime } from '../../../crds/src/testing/builders.ts';
import { buildRuntimeStatus, judgeRuntime } from './judge.ts';

const NOW = Date.parse('2026-01-01T12:00:00Z');

function seen(spec: object): object {
  const runtime = { ...aRuntime(spec), metadata: { name: 'python', generation: 1 } };
  const claims = judgeRuntime({ runtime, invalid: undefined, runtimeClasses: ['gvisor'], defaultRuntimeClass: undefined });
  return { ...runtime, status: buildRuntimeStatus(claims, 1, undefined, NOW) };
}

const OBJECTS: Record<string, () => object> = {
  'runtime-new': () => ({ ...seen({}), status: { observedGeneration: -1 } }),
  'runtime-usable': () => seen({}),
  'runtime-without-class': () => seen({ runtimeClassName: 'kata' }),
};

inTestdata(OBJECTS, (name) => name.startsWith('runtime-'));
