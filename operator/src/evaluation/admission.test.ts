import { describe, expect, it } from 'vitest';
import { admit } from './admission.ts';
import type { ClusterFacts } from './admission.ts';
import { evaluation, runtime, settings, snapshot } from './testing/builders.ts';

const facts = (changes: Partial<ClusterFacts> = {}): ClusterFacts => ({ ...snapshot().cluster, ...changes });
const run = (spec: Parameters<typeof evaluation>[0], changes?: Partial<ClusterFacts>) => {
  const admission = admit(evaluation(spec), facts(changes), settings());
  if (!admission.admitted) throw new Error(admission.message);
  return admission.run;
};

describe('admit refuses', () => {
  const bounded = [
    runtime('python', {
      maximum: { resources: { cpu: '2', memory: '1Gi', disk: '1Gi' }, timeoutSeconds: 600 },
      runtimeClassName: 'gvisor',
    }),
  ];
  it.each([
    [
      'a namespace without the label',
      {},
      { namespace: { ...snapshot().cluster.namespace!, metadata: { name: 'evals' } } },
      'NamespaceNotEnabled',
      'evaluationNamespaces',
    ],
    ['a namespace that is not there', {}, { namespace: undefined }, 'NamespaceNotEnabled', 'evals'],
    ['an unknown runtime', { runtime: 'cobol' }, {}, 'RuntimeNotFound', 'bash, python'],
    ['any runtime when there is none', {}, { runtimes: [] }, 'RuntimeNotFound', 'none yet'],
    ['a missing RuntimeClass', { isolation: { runtimeClassName: 'kata' } }, {}, 'RuntimeClassNotFound', 'gvisor'],
    ['a runtime’s missing RuntimeClass', {}, { runtimes: bounded, runtimeClasses: [] }, 'RuntimeClassNotFound', 'none'],
    [
      'another class than the runtime’s',
      { isolation: { runtimeClassName: 'runc' } },
      { runtimes: bounded, runtimeClasses: ['runc', 'gvisor'] },
      'RuntimeClassNotAllowed',
      'gvisor',
    ],
    [
      'too much CPU',
      { resources: { cpu: '2001m' } },
      { runtimes: bounded },
      'ResourcesExceedRuntime',
      'spec.resources.cpu',
    ],
    [
      'too much memory',
      { resources: { memory: '1025Mi' } },
      { runtimes: bounded },
      'ResourcesExceedRuntime',
      'at most 1Gi',
    ],
    ['too long a timeout', { timeoutSeconds: 601 }, { runtimes: bounded }, 'ResourcesExceedRuntime', 'at most 600'],
    ['a file in the place of the code', { files: [{ path: 'main.py', content: '' }] }, {}, 'InvalidSpec', 'main.py'],
  ] as const)('%s', (_, spec, changes, reason, hint) => {
    const admission = admit(evaluation(spec as never), facts(changes as never), settings());
    expect(admission).toMatchObject({ admitted: false, reason });
    expect((admission as { message: string }).message).toContain(hint);
  });

  it('a namespace with the label that the operator has no rights in', () => {
    expect(admit(evaluation(), facts(), settings({ evaluationNamespaces: [] }))).toMatchObject({
      reason: 'NamespaceNotEnabled',
    });
  });

  it("the drill's runtime to everybody else, and does not name it", () => {
    const drill = runtime('crucible-drill');
    const runtimes = [runtime('python'), { ...drill, metadata: { ...drill.metadata, labels: { 'crucible.dev/drill': 'runtime' } } }];
    const mine = evaluation({ runtime: 'crucible-drill' });
    const admission = admit(mine, facts({ runtimes }), settings());
    expect(admission).toMatchObject({ admitted: false, reason: 'RuntimeNotFound' });
    expect((admission as { message: string }).message).toContain('Known ones: python.');
    const its = { ...mine, metadata: { ...mine.metadata, labels: { 'crucible.dev/drill': 'an-id' } } };
    expect(admit(its, facts({ runtimes }), settings())).toMatchObject({ admitted: true });
  });

  it('a default RuntimeClass that is not there, rather than fall back', () => {
    const strict = settings();
    const admission = admit(evaluation(), facts(), {
      ...strict,
      sandbox: { ...strict.sandbox, runtimeClassName: 'kata' },
    });
    expect(admission).toMatchObject({ admitted: false, reason: 'RuntimeClassNotFound' });
  });
});

describe('admit resolves', () => {
  it('a runtime: command, entry file, arguments, and what the Evaluation overrides', () => {
    const python = runtime('python', {
      env: [
        { name: 'SEED', value: '1' },
        { name: 'A', value: 'a' },
      ],
      default: { timeoutSeconds: 30, resources: { memory: '128Mi' } },
    });
    expect(
      run({ args: ['-v'], env: [{ name: 'SEED', value: '2' }], resources: { cpu: '500m' } }, { runtimes: [python] }),
    ).toMatchObject({
      image: 'crucible/python:test',
      launcherIncluded: true,
      command: ['python3', '/crucible/code/main.py', '-v'],
      env: { SEED: '2', A: 'a' },
      cpuMilli: 500,
      memoryBytes: 128 * 2 ** 20,
      diskBytes: 64 * 2 ** 20,
      timeoutSeconds: 30,
      runtimeClassName: undefined,
    });
  });

  it('an image: its own command, and the launcher brought in', () => {
    expect(run({ runtime: undefined, image: 'a/b:1', command: ['sh', '-c', 'x'], code: 'echo' })).toMatchObject({
      image: 'a/b:1',
      launcherIncluded: false,
      command: ['sh', '-c', 'x'],
      files: [{ path: 'main', content: 'echo' }],
    });
  });

  it('the RuntimeClass: of the Evaluation, else of the runtime', () => {
    expect(run({ isolation: { runtimeClassName: 'gvisor' } }).runtimeClassName).toBe('gvisor');
    expect(run({}, { runtimes: [runtime('python', { runtimeClassName: 'gvisor' })] }).runtimeClassName).toBe('gvisor');
  });

  it('defaults cut to a smaller maximum', () => {
    expect(
      run({}, { runtimes: [runtime('python', { maximum: { resources: { memory: '64Mi' }, timeoutSeconds: 10 } })] }),
    ).toMatchObject({ memoryBytes: 64 * 2 ** 20, timeoutSeconds: 10 });
  });
});
