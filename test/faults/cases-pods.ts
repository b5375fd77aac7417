import { setTimeout as pause } from 'node:timers/promises';
import type { FaultCase } from './cases.ts';
import { isOver } from './cases.ts';
import type { End, Step } from './node.ts';
import { neighbouring } from './scenario.ts';
import { random } from './seed.ts';
import type { Json } from './state.ts';
import type { World } from './world.ts';

// Faults 9 and 10: what people and the cluster do to namespaces, Evaluations, Jobs and pods.

/** 9. Our programs may do nothing for so long. */
export function rightsRevoked(forMs: number): FaultCase {
  let forbidden = 0;
  return {
    id: `9/rights-revoked-for-${forMs}-ms`,
    arm: (world, seed) => {
      const next = random(seed);
      return async () => {
        await world.until('a leader', async () => ((await world.leader()) !== '' ? true : undefined));
        await pause(next() * 1500);
        const before = world.operatorApi.answers(403);
        await world.servers.rights.revoke();
        try {
          await pause(forMs);
          forbidden = world.operatorApi.answers(403) - before;
        } finally {
          await world.servers.rights.grant();
        }
      };
    },
    struck: () => forbidden > 0,
  };
}

/** The namespace controller looks again after 5, 10, 20, 40 and 60 s: what is let go after 75 s goes after 135. */
const NAMESPACE_MS = 200_000;

/** 9. The namespace goes while everything runs in it; Postgres may be away until it is gone. */
export function namespaceDeleted(withoutPostgres = false): FaultCase {
  let inMidRun = false;
  return {
    id: `9/namespace-deleted${withoutPostgres ? '-while-postgres-is-away' : ''}`,
    incomparable: true,
    arm: (world, seed) => {
      const next = random(seed);
      hold(world, 'running', 'succeeds');
      return held(world, async () => {
        await at(world, 'running', 'succeeds');
        await pause(next() * 600);
        const path = `/api/v1/namespaces/${world.namespace}`;
        const postgres = withoutPostgres ? [world.operatorCommits, world.recorderCommits] : [];
        try {
          await Promise.all(postgres.map((proxy) => proxy.down()));
          const { status } = await world.api.delete(path);
          inMidRun = status < 300 && !isFinished(await world.evaluation('succeeds'));
          release(world);
          await gone(world, path);
        } finally {
          await Promise.all(postgres.map((proxy) => proxy.up()));
        }
        world.forgiveNode();
      });
    },
    struck: () => inMidRun,
  };
}

/**
 * 9. One of two namespaces goes while a run of each goes on and one there has no node yet; operator and recorder are killed as it goes
 * and again when it is gone: programs that start must neither wait for it nor leave anything of it. Perhaps without Postgres as it is deleted,
 * so that there is something of it in the spool; it is back after the first kill, for no program starts without it.
 */
export function namespaceDeletedAndProgramsRestarted(withoutPostgres = false): FaultCase {
  const [ours, runs, waits] = ['succeeds', 'neighbour-runs', 'neighbour-waits'];
  let [inMidRun, spooled] = [false, !withoutPostgres];
  const restart = (world: World): Promise<unknown> => Promise.all([world.operator.kill(), world.recorder.kill()]);
  return {
    id: `9/namespace-deleted-and-programs-restarted${withoutPostgres ? '-while-postgres-is-away' : ''}`,
    parts: [neighbouring(runs, 1), neighbouring(waits, 2)],
    otherwise: { [runs]: ['Cancelled'], [waits]: ['Cancelled'] },
    world: { neighbour: true },
    arm: (world, seed) => {
      const next = random(seed);
      world.servers.node.gate = (step, evaluation) =>
        !(step === WITHHELD.running && evaluation === ours) && !(step === WITHHELD.pending && evaluation === waits);
      return held(world, async () => {
        const path = `/api/v1/namespaces/${world.neighbour}`;
        const postgres = withoutPostgres ? [world.operatorCommits, world.recorderCommits] : [];
        await at(world, 'running', ours);
        await at(world, 'running', runs, world.neighbour);
        await at(world, 'pending', waits, world.neighbour);
        await pause(next() * 600);
        try {
          await Promise.all(postgres.map((proxy) => proxy.down()));
          const { status } = await world.api.delete(path);
          inMidRun = status < 300 && !isFinished(await world.evaluation(ours));
          await pause(next() * 3000);
          spooled ||= world.spooled().length > 0;
          await restart(world);
        } finally {
          await Promise.all(postgres.map((proxy) => proxy.up()));
        }
        await gone(world, path);
        await restart(world);
        inMidRun &&= !isFinished(await world.evaluation(ours));
        release(world);
        await world.until('the spool to be empty', () => (world.spooled().length === 0 ? true : undefined));
        world.forgiveNode();
      });
    },
    struck: (world) => inMidRun && spooled && world.operator.starts > 2 && world.recorder.starts > 2,
  };
}

async function gone(world: World, path: string): Promise<void> {
  await world
    .until('the namespace to go', async () => ((await world.api.get(path)).status === 404 ? true : undefined), NAMESPACE_MS)
    .catch(async (error: unknown) => {
      throw new Error(`${String(error)}: ${await whatIsLeft(world, path)}`);
    });
}

/** As the namespace controller tells. */
async function whatIsLeft(world: World, path: string): Promise<string> {
  const { body } = await world.api.get(path);
  const conditions = (body['status']?.conditions ?? []) as Json[];
  return conditions.filter(({ status }) => status === 'True').map(({ message }) => message).join('; ');
}

export const KINDS = ['evaluation', 'job', 'pod'] as const;
export type Kind = (typeof KINDS)[number];
export type Stage = (typeof STAGES)[number];
/** Points of a pod's life: before it has a node, before it runs, while it runs, ended and not captured; and finished. */
export const STAGES = ['pending', 'placed', 'running', 'ended', 'finished'] as const;
export const PROPAGATIONS = ['Foreground', 'Background'] as const;
export type Propagation = (typeof PROPAGATIONS)[number];

/**
 * What has ended is judged by how it ended; else its owner has taken it back, or somebody has taken its pod away. A program
 * that ends by itself before it is told to has succeeded.
 */
function verdictsOf(kind: Kind, stage: Stage): string[] {
  if (stage === 'ended' || stage === 'finished') return ['Succeeded'];
  return [kind === 'evaluation' ? 'Cancelled' : 'InternalError', 'Succeeded'];
}

/** 9. Somebody deletes the Evaluation, its Job or its pod. */
export function deleted(kind: Kind, stage: Stage, propagation: Propagation, part = 'succeeds'): FaultCase {
  let done = false;
  return {
    id: `9/${kind}-deleted-${stage}-${propagation.toLowerCase()}`,
    otherwise: { [part]: verdictsOf(kind, stage) },
    arm: (world) => {
      hold(world, stage, part);
      return held(world, async () => {
        const pod = await at(world, stage, part);
        const job = pod['metadata'].ownerReferences[0].name as string;
        const paths: Record<Kind, string> = {
          evaluation: world.path('evaluations', part),
          job: `/apis/batch/v1/namespaces/${world.namespace}/jobs/${job}`,
          pod: `/api/v1/namespaces/${world.namespace}/pods/${pod['metadata'].name}`,
        };
        const { status } = await world.api.send('DELETE', paths[kind], { propagationPolicy: propagation });
        done = status < 300;
        await pause(300);
      });
    },
    struck: () => done,
  };
}

/** 9. The Evaluation is deleted while nothing starts: it has no Job, and never gets one. */
export function deletedInQueue(propagation: Propagation, part = 'succeeds'): FaultCase {
  const path = (world: World): string => `/api/v1/namespaces/${world.namespace}/configmaps`;
  let done = false;
  return {
    id: `9/evaluation-deleted-queued-${propagation.toLowerCase()}`,
    otherwise: { [part]: ['Cancelled'] },
    prepare: async (world) =>
      void (await world.must('POST', path(world), { metadata: { name: PAUSE }, data: { paused: 'true', reason: 'a test' } })),
    arm: (world) => async () => {
      await world.until('it to wait', async () => (await world.evaluation(part))?.['status']?.queue?.reason === 'Paused' || undefined);
      const { status } = await world.api.send('DELETE', world.path('evaluations', part), { propagationPolicy: propagation });
      await world.until('it to go', async () => ((await world.evaluation(part)) === undefined ? true : undefined));
      done = status < 300 && (await world.pod(part)) === undefined;
      await world.api.delete(`${path(world)}/${PAUSE}`);
    },
    struck: () => done,
  };
}

const PAUSE = 'crucible-pause';

/** What becomes of a pod, and the verdicts that are right then. */
interface Fate {
  readonly stages: readonly Stage[];
  readonly verdicts: readonly string[];
  readonly strike: (world: World, pod: Json) => Promise<void>;
}

const ended =
  (how: End) =>
  (world: World, pod: Json): Promise<void> => {
    world.servers.node.end(pod['metadata'].uid, how);
    return Promise.resolve();
  };

export const FATES: Readonly<Record<string, Fate>> = {
  evicted: {
    stages: ['running'],
    verdicts: ['Evicted'],
    strike: ended({ exitCode: 137, podReason: 'Evicted', podMessage: 'The node was low on resource: memory. ' }),
  },
  'out-of-memory': { stages: ['running'], verdicts: ['OutOfMemory'], strike: ended({ exitCode: 137, containerReason: 'OOMKilled' }) },
  preempted: {
    stages: ['placed', 'running'],
    // Before it ran nobody may be blamed for more than that it went.
    verdicts: ['Preempted'],
    strike: async (world, pod) => {
      await disrupt(world, pod, 'PreemptionByScheduler', 'preempting to accommodate a higher priority pod');
      await world.api.send('DELETE', podPath(world, pod), { gracePeriodSeconds: 5 });
    },
  },
  'force-deleted': {
    stages: ['pending', 'placed', 'running', 'ended'],
    verdicts: [],
    strike: async (world, pod) => void (await world.api.send('DELETE', podPath(world, pod), { gracePeriodSeconds: 0 })),
  },
  vanished: { stages: ['placed', 'running', 'ended'], verdicts: [], strike: (world, pod) => world.vanish(pod) },
  'kubelet-stopped': {
    stages: ['placed', 'running'],
    verdicts: ['NodeLost'],
    strike: async (world, pod) => {
      world.servers.node.silent.add(pod['metadata'].uid);
      await pause(1000);
      // As the pod garbage collector, when the node is gone for good.
      const condition = { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByPodGC', message: 'PodGC: node no longer exists' };
      await world.api.mergePatch(`${podPath(world, pod)}/status`, { status: { phase: 'Failed', conditions: [condition] } });
      await world.api.send('DELETE', podPath(world, pod), { gracePeriodSeconds: 0 });
    },
  },
};

/** 10. */
export function podFate(name: string, stage: Stage, part = 'succeeds'): FaultCase {
  const { verdicts, strike } = FATES[name]!;
  let done = false;
  return {
    id: `10/pod-${name}-${stage}`,
    otherwise: { [part]: verdicts },
    arm: (world) => {
      hold(world, stage, part);
      return held(world, async () => {
        const pod = await at(world, stage, part);
        await strike(world, pod);
        done = true;
        await pause(300);
      });
    },
    struck: () => done,
  };
}

/** The step that is withheld, so that a pod stays at this point until it is released. */
const WITHHELD: Readonly<Record<Stage, Step | undefined>> = {
  pending: 'bind',
  placed: 'start',
  running: 'report',
  ended: 'report',
  finished: undefined,
};

export function hold(world: World, stage: Stage, part: string): void {
  world.servers.node.gate = (step, evaluation) => !(step === WITHHELD[stage] && evaluation === part);
}

export function release(world: World): void {
  world.servers.node.gate = () => true;
  world.recorder.resume();
}

/** Whatever becomes of `harm`, what it withheld or stopped goes on. */
export function held(world: World, harm: () => Promise<void>): () => Promise<void> {
  return () => harm().finally(() => release(world));
}

/** The pod, once it is there; what was withheld stays so, and of one that has ended the capture. */
export async function at(world: World, stage: Stage, part: string, namespace = world.namespace): Promise<Json> {
  if (stage === 'ended') {
    await at(world, 'running', part);
    world.recorder.pause();
    world.servers.node.gate = () => true;
  }
  return await world.until(`the pod of ${part} to be ${stage}`, async () => {
    if (stage === 'finished' && !isFinished(await world.evaluation(part))) return undefined;
    const pod = await world.pod(part, namespace);
    return pod !== undefined && isAt(pod, stage) ? pod : undefined;
  });
}

function isAt(pod: Json, stage: Stage): boolean {
  const placed = pod['spec'].nodeName !== undefined;
  if (stage === 'pending') return !placed;
  if (stage === 'placed') return placed && pod['status'].phase === 'Pending';
  if (stage === 'running') return pod['status'].phase === 'Running';
  return isOver(pod);
}

export function isFinished(evaluation: Json | undefined): boolean {
  return (evaluation?.['status']?.conditions ?? []).some(({ type, status }: Json) => type === 'Finished' && status === 'True');
}

function podPath(world: World, pod: Json): string {
  return `/api/v1/namespaces/${world.namespace}/pods/${pod['metadata'].name}`;
}

async function disrupt(world: World, pod: Json, reason: string, message: string): Promise<void> {
  const conditions = [{ type: 'DisruptionTarget', status: 'True', reason, message }];
  await world.api.mergePatch(`${podPath(world, pod)}/status`, { status: { conditions } });
}
