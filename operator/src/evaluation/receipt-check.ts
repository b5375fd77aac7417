import { clip, parseBytes } from '@crucible/crds';
import type { AttemptRecord } from '@crucible/storage';
import type { KubernetesWord } from './receipt.ts';

// Where what was measured inside a sandbox is not what its pod says, or not what every sandbox must be.

/** What the launcher sends (launcher/internal/stage/receipt.go). Out of a sandbox: any field may be anything. */
export interface Measured {
  readonly [field: string]: unknown;
}

export interface Mismatch {
  readonly rule: string;
  readonly expected: string;
  readonly found: string;
}

export interface CheckInput {
  readonly sandbox: Measured | undefined;
  readonly kubernetes: KubernetesWord | null;
  readonly attempt: Pick<AttemptRecord, 'image' | 'runtimeClass'>;
}

/** The kubelet writes whole seconds, and the code starts a moment after its container. */
const CLOCK_SLACK_MS = 3000;
const MAX_MISMATCHES = 20;

export function mismatches({ sandbox, kubernetes, attempt }: CheckInput): Mismatch[] {
  const found = [
    ...(kubernetes === null ? [] : againstRecord(kubernetes, attempt)),
    ...(sandbox === undefined ? [] : againstRules(sandbox)),
    ...(sandbox === undefined || kubernetes === null ? [] : againstPod(sandbox, kubernetes)),
  ];
  return found.slice(0, MAX_MISMATCHES);
}

function differs(rule: string, expected: unknown, found: unknown): Mismatch[] {
  return expected === found ? [] : [{ rule, expected: show(expected), found: show(found) }];
}

function againstRecord(kubernetes: KubernetesWord, attempt: CheckInput['attempt']): Mismatch[] {
  return [
    ...differs('runtimeClass', attempt.runtimeClass, kubernetes.runtimeClassName),
    ...(kubernetes.image === null ? [] : differs('image', attempt.image, kubernetes.image)),
  ];
}

/** What every sandbox is, whatever its pod says. */
function againstRules(sandbox: Measured): Mismatch[] {
  const capabilities = Object.entries(record(sandbox['caps'])).filter(([, mask]) => !/^0+$/.test(String(mask)));
  const denied = Object.entries(record(sandbox['denied'])).filter(([, error]) => error === '');
  const groups = list(sandbox['groups']);
  const reached = list(sandbox['network']).map(record).filter(({ result }) => result === 'connected');
  return [
    ...differs('seccomp', 2, sandbox['seccomp']),
    ...differs('noNewPrivs', true, sandbox['noNewPrivs']),
    ...differs('rootReadOnly', true, sandbox['rootReadOnly']),
    ...differs('tokenAbsent', true, sandbox['tokenAbsent']),
    ...differs('launcherSealed', true, sandbox['launcherSealed']),
    ...differs('launcherShielded', true, sandbox['launcherShielded']),
    ...differs('processLimit', true, sandbox['processLimitHolds']),
    ...capabilities.map(([set, mask]) => ({ rule: 'capabilities', expected: 'none', found: show(`${set} ${String(mask)}`) })),
    ...denied.map(([call]) => ({ rule: 'systemCalls', expected: `${show(call)} refused`, found: 'allowed' })),
    ...(groups.includes(0) ? [{ rule: 'groups', expected: 'not 0', found: show(groups) }] : []),
    ...reached.map(({ target }) => ({ rule: 'network', expected: 'no connection', found: `connected to ${show(target)}` })),
  ];
}

function againstPod(sandbox: Measured, kubernetes: KubernetesWord): Mismatch[] {
  const { runAsUser, runAsGroup } = kubernetes.securityContext.pod as { runAsUser?: unknown; runAsGroup?: unknown };
  return [
    ...(runAsUser === undefined ? [] : differs('uid', runAsUser, sandbox['uid'])),
    ...(runAsGroup === undefined ? [] : differs('gid', runAsGroup, sandbox['gid'])),
    ...kernel(sandbox, kubernetes),
    ...memory(sandbox, kubernetes),
    ...clock(sandbox, kubernetes),
  ];
}

/** Under gVisor the kernel is gVisor's: a class that is silently not applied shows here. */
function kernel(sandbox: Measured, { runtimeClassName, runtimeHandler }: KubernetesWord): Mismatch[] {
  if (!/gvisor|runsc/i.test(`${runtimeClassName ?? ''} ${runtimeHandler ?? ''}`)) return [];
  const { release, version } = record(sandbox['kernel']);
  const seen = `${String(release)} ${String(version)}`;
  return /gvisor/i.test(seen) ? [] : [{ rule: 'kernel', expected: "gVisor's", found: show(seen) }];
}

function memory(sandbox: Measured, { limits }: KubernetesWord): Mismatch[] {
  const measured = record(sandbox['cgroup'])['memoryBytes'];
  const declared = bytes(limits['memory']);
  if (typeof measured !== 'number' || declared === undefined || measured <= declared) return [];
  return [{ rule: 'memory', expected: `at most ${declared} bytes`, found: show(measured) }];
}

function bytes(quantity: string | undefined): number | undefined {
  try {
    return quantity === undefined ? undefined : parseBytes(quantity);
  } catch {
    return undefined; // a spelling that only other writers of pods use
  }
}

function clock(sandbox: Measured, { startedAt, finishedAt }: KubernetesWord): Mismatch[] {
  const at = Date.parse(String(sandbox['measuredAt']));
  if (startedAt === null) return [];
  const early = at < Date.parse(startedAt) - CLOCK_SLACK_MS;
  const late = finishedAt !== null && at > Date.parse(finishedAt) + CLOCK_SLACK_MS;
  if (!Number.isNaN(at) && !early && !late) return [];
  const expected = `between ${startedAt} and ${finishedAt ?? 'now'}`;
  return [{ rule: 'measuredAt', expected, found: show(sandbox['measuredAt']) }];
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function show(value: unknown): string {
  return clip(typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing'), 200);
}
