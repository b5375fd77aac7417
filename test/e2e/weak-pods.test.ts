/**
 * That the drill can find a breach at all: each of its attacks catches a pod that was made weak for it. These pods are in a
 * namespace of their own, without policies, and exist in tests only. Each is bounded in time and size by its own program.
 */
import { existsSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Attack, Check, RunEnd } from '../../operator/src/drill/attack.ts';
import { judgeChecks } from '../../operator/src/drill/attack.ts';
import { PEER_PORT, PEER_PROGRAM, TARGETS_FILE, canaryProgram } from '../../operator/src/drill/canary.ts';
import type { Target } from '../../operator/src/drill/canary.ts';
import { CATALOGUE, QUICK } from '../../operator/src/drill/catalogue/index.ts';
import { judgeKernel, missingClass } from '../../operator/src/drill/catalogue/kernel.ts';
import { peerThrough } from '../../operator/src/drill/control.ts';
import { parseReport } from '../../operator/src/drill/report.ts';
import { skip } from '../skip.ts';
import { apply, condition, DRILL_NAMESPACE, evaluation, eventually, getJson, kubectl, ok, uniqueName, waitFor } from './cluster.ts';
import { INTERNET, METADATA_PORT, play } from './internet.ts';
import type { Internet } from './internet.ts';

const native = existsSync('/run/crucible/commands/netpol');
const WEAK = 'crucible-drill-weak';
const CODE = '/crucible/code';
/** Of the deadline's attack: timeout, grace, what the contract adds, and one for whole seconds. */
const DEADLINE_SECONDS = 8 + 5 + 5 + 1;
const LOG_BYTES = 4 * 1024 * 1024;

interface Pod {
  metadata: { name: string };
  status: { podIP?: string; containerStatuses?: { state: { running?: { startedAt: string }; terminated?: { exitCode: number; reason: string } } }[] };
}

/** Everything a sandbox is not: root, every capability, the node's processes, a token, a writable root, no policy. */
function weakPod(name: string, image: string, program: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: WEAK },
    spec: {
      restartPolicy: 'Never',
      hostPID: true,
      activeDeadlineSeconds: 600,
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'weak',
          image,
          command: ['/usr/bin/python3', '-c', program],
          env: [{ name: 'DATABASE_PASSWORD', value: 'not a secret' }],
          securityContext: { privileged: true, runAsUser: 0, runAsGroup: 0, seccompProfile: { type: 'Unconfined' } },
          resources: { limits: { memory: '2Gi' } },
        },
      ],
    },
  };
}

/**
 * Of an attack that runs alone: its own program without a launcher, without a limit of processor, processes, disk or log, and
 * without a deadline but this one. Memory is bounded far above what the attack is given. It is no process of the node's.
 */
function limitlessPod(name: string, image: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: WEAK },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      activeDeadlineSeconds: 120,
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'weak',
          image,
          command: ['/usr/bin/python3', '-u', `${CODE}/${name}.py`],
          workingDir: '/work',
          securityContext: { runAsUser: 0, runAsGroup: 0 },
          // The request is the weight among all that runs here: without it spinners get what the others leave.
          resources: { requests: { cpu: name === 'spinners' ? '500m' : '10m', memory: '32Mi' }, limits: { memory: '2Gi' } },
          volumeMounts: [{ name: 'work', mountPath: '/work' }, { name: 'code', mountPath: CODE, readOnly: true }],
        },
      ],
      volumes: [{ name: 'work', emptyDir: {} }, { name: 'code', configMap: { name: 'programs' } }],
    },
  };
}

/** What is to be found, and what of the weak reader that plays the recorder's part: it believes whatever it is told. */
interface Weakness {
  readonly found: readonly string[];
  /** Around the attack's program, in the pod. */
  readonly program?: (code: string) => string;
  readonly reader?: (end: RunEnd) => Partial<RunEnd>;
}

/** Follows every link, and takes what it finds for what it was asked for. It reads nothing. */
const collector = `
for name in sorted(os.listdir('/work/out')):
    try: print('COLLECTED ' + __import__('json').dumps({'path': 'out/' + name, 'refused': None, 'size': os.stat('/work/out/' + name).st_size}))
    except OSError: pass
`;

/** Until it has got more than it may: others run at the same time. About 3 s each, 70 s at most. */
const again = (code: string): string => `
import json
for attempt in range(20):
    said = []
    exec(json.loads(${JSON.stringify(JSON.stringify(code))}), {'print': said.append})
    print(*said, sep='\\n', flush=True)
    if any('"blocked": false' in line for line in said): break
`;

const WEAKNESSES: Readonly<Record<string, Weakness>> = {
  mounts: { found: ['/', '/work'] },
  'start-window': { found: ['window'] },
  memory: { found: ['ended'] },
  // The node's limit of processes for a pod stays: without it a bomb that is not ours would have the node.
  forks: { found: ['refused'] },
  spinners: { found: ['cpu'], program: again },
  disk: { found: ['cap'] },
  flood: { found: ['kept', 'truncated'] },
  frames: {
    found: ['verdict', 'launcher'],
    reader: ({ stdout }) => JSON.parse(/^1 s\|(.*)$/m.exec(stdout)![1]!) as Partial<RunEnd>,
  },
  'termination-message': { found: ['size'] },
  artifacts: {
    found: ['links', 'size'],
    program: (code) => code + collector,
    reader: ({ stdout }) => ({
      artifacts: [...stdout.matchAll(/^COLLECTED (.*)$/gm)].map(([, line]) => JSON.parse(line!) as RunEnd['artifacts'][number]),
    }),
  },
  deadline: { found: ['ended', 'verdict'] },
};

const inside = CATALOGUE.filter(({ method }) => method.kind === 'inside');
const alone = CATALOGUE.filter(({ method }) => method.kind === 'alone');
let internet: Internet;
let image: string;
let peer: string;
let accepted: ReturnType<typeof waitFor>;

async function targets(): Promise<Target[]> {
  const listener = await ok(['get', 'pods', '-n', DRILL_NAMESPACE, '-l', 'app.kubernetes.io/component=drill-listener', '-o', 'jsonpath={.items[0].status.podIP}']);
  const service = await ok(['get', 'service', 'kubernetes', '-o', 'jsonpath={.spec.clusterIP}']);
  const dns = await ok(['get', 'service', 'kube-dns', '-n', 'kube-system', '-o', 'jsonpath={.spec.clusterIP}']);
  const node = await ok(['get', 'nodes', '-o', 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}']);
  const target = (group: string, address: string, port: number, protocol: Target['protocol'] = 'tcp'): Target => ({ name: `${protocol} ${address}:${port}`, group, protocol, address, port });
  return [
    target('egress', listener, 8099), target('egress', listener, 8099, 'udp'), target('apiServer', service, 443),
    target('dns', dns, 53, 'dns'), target('dns', dns, 53), target('node', node, 10250), target('peer', peer, PEER_PORT),
    target('metadata', INTERNET, METADATA_PORT),
  ];
}

async function startLimitless(where: readonly Target[]): Promise<void> {
  const programs = alone.map(({ id, method }) => {
    const code = method.kind === 'alone' ? method.spec.code : '';
    return [`${id}.py`, WEAKNESSES[id]?.program?.(code) ?? code];
  });
  const data = Object.fromEntries([...programs, [TARGETS_FILE, JSON.stringify(where)]]) as Record<string, string>;
  const items = [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'programs', namespace: WEAK }, data }, ...alone.map(({ id }) => limitlessPod(id, image))];
  await apply({ apiVersion: 'v1', kind: 'List', items });
}

const stateOf = async (name: string) => (await getJson<Pod>(['pod', name, '-n', WEAK])).status.containerStatuses?.[0]?.state;

/** How an attack ended in its weak pod, in the words of a reader that bounds nothing; or that it has not. */
async function weakEnd(id: string): Promise<RunEnd> {
  const { exitCode, seconds, verdict } = await eventually(`the weak pod of ${id} ends`, 120, async () => {
    const state = await stateOf(id);
    if (state?.terminated) {
      const { exitCode, reason } = state.terminated;
      return { exitCode, seconds: 1, verdict: reason === 'OOMKilled' ? 'OutOfMemory' : exitCode === 0 ? 'Succeeded' : 'NonZeroExit' };
    }
    const seconds = state?.running ? Math.floor((Date.now() - Date.parse(state.running.startedAt)) / 1000) : 0;
    return id === 'deadline' && seconds > DEADLINE_SECONDS ? { exitCode: undefined, seconds, verdict: 'Running' } : undefined;
  });
  const stdout = await ok(['logs', id, '-n', WEAK, `--limit-bytes=${LOG_BYTES}`]);
  const end = { stdout, exitCode, seconds, verdict, truncated: false, storedBytes: Buffer.byteLength(stdout), artifacts: [] };
  return { ...end, ...WEAKNESSES[id]?.reader?.(end) };
}

beforeAll(async () => {
  if (!native) return;
  internet = await play();
  ({ image } = (await getJson<{ spec: { image: string } }>(['evaluationruntime', 'crucible-drill'])).spec);
  const admitted = uniqueName('weak-class');
  await apply(evaluation(admitted, { runtime: 'bash', code: 'true', isolation: { runtimeClassName: 'gvisor' } }));
  accepted = waitFor(admitted, 'Finished');
  accepted.catch(() => undefined); // told by the test that waits for it
  // A run that was killed leaves its own behind.
  await ok(['delete', 'namespace', WEAK, '--ignore-not-found', '--timeout=60s']);
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: WEAK, labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } } });
  await eventually('its service account', 30, async () => ((await kubectl(['get', 'serviceaccount', 'default', '-n', WEAK])).code === 0 ? true : undefined));
  await apply(weakPod('peer', image, PEER_PROGRAM));
  peer = await eventually('the weak peer listens', 60, async () => {
    const ip = await ok(['get', 'pod', 'peer', '-n', WEAK, '-o', 'jsonpath={.status.podIP}']);
    return ip !== '' && (await kubectl(['logs', 'peer', '-n', WEAK])).stdout.includes('crucible-drill-peer') ? ip : undefined;
  });
});
afterAll(async () => {
  if (!native) return;
  await ok(['delete', 'namespace', WEAK, '--ignore-not-found', '--wait=false']);
  await internet?.stop();
});

describe.runIf(native)('a deliberately weak pod', () => {
  let report: Map<string, Check[]>;

  beforeAll(async () => {
    const where = await targets();
    const socket = "import socket; socket.socket(socket.AF_UNIX).bind('/run/docker.sock')\n";
    await apply(weakPod('weak', image, socket + canaryProgram(inside, `json.loads('''${JSON.stringify(where)}''')`)));
    await startLimitless(where);
    await eventually('the weak pod ends', 120, async () => (await stateOf('weak'))?.terminated);
    report = parseReport(await ok(['logs', 'weak', '-n', WEAK]));
  });

  const caught = (attack: Attack): string[] => {
    const { method } = attack;
    const key = method.kind === 'reach' ? `reach:${method.group}` : attack.id;
    const checks = report.get(key) ?? [];
    // The weak pod runs under runc and says that it is gVisor's.
    const judged = attack.id === 'kernel' ? judgeKernel(checks, { handler: 'runsc', kernels: [] }) : checks;
    const { outcome, evidence } = judgeChecks(attack, [], judged, undefined);
    return [outcome, evidence];
  };

  it.each([...new Set([...inside, ...QUICK.filter(({ method }) => method.kind === 'reach')])].map((attack) => [attack.id, attack] as const))(
    'is caught by %s',
    (_id, attack) => expect(caught(attack)).toEqual(['broken', expect.any(String)]),
  );

  it('is caught by peer-ingress: nothing keeps the control out of it', async () => {
    const pods = await getJson<{ items: Pod[] }>(['pods', '-n', DRILL_NAMESPACE, '-l', 'app.kubernetes.io/component=drill-control']);
    const ask = peerThrough(`http://${pods.items.find(({ status }) => status.podIP)!.status.podIP}:8080`);
    expect(await ask(peer, AbortSignal.timeout(20_000))).toEqual({ blocked: false, detail: `${peer} answered the control` });
  });

  it.for(alone.map((attack) => [attack.id, attack] as const))('without limits is caught by %s', async ([id, attack], context) => {
    const end = await weakEnd(id);
    const checks = attack.method.kind === 'alone' ? attack.method.judge(end) : [];
    // Where others leave it less than it would be allowed, nothing can be shown.
    if (id === 'spinners' && checks.every(({ blocked }) => blocked) && loadavg()[0]! > 3 * availableParallelism())
      return skip(context, 'the machine is too busy to give spinners more than their limit');
    const found = checks.filter(({ blocked }) => blocked === false).map(({ check }) => check);
    expect(found, JSON.stringify({ checks, end: { ...end, stdout: end.stdout.slice(0, 500) } })).toEqual(expect.arrayContaining([...WEAKNESSES[id]!.found]));
    expect(judgeChecks(attack, [], checks, undefined).outcome).toBe('broken');
  });

  it('a class that is let in is caught by missing-class', async () => {
    const of = await accepted;
    const facts = { runtimeClass: undefined, handler: undefined, kernels: [], policies: [] };
    const seen = { reason: condition(of, 'Accepted')!.reason, attempts: of.status!.attempts!.length };
    const checks = missingClass.method.kind === 'facts' ? missingClass.method.judge({ ...facts, missingClass: seen }) : [];
    expect(judgeChecks(missingClass, [], checks, undefined).outcome).toBe('broken');
  });
});
