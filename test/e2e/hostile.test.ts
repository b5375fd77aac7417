/**
 * Hostile code and careless images, in real pods, under both runtime classes and all at once: they share one cluster with
 * each other, and none of them may matter to another.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Evaluation } from '@crucible/crds';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apply, evaluation, ok, refusal, sql, uniqueName, waitFor } from './cluster.ts';

/** Every byte value alone, in pairs with each line ending, and no newline at the end. */
const BYTES = Buffer.concat(
  Array.from({ length: 256 }, (_, value) => Buffer.from([value, value, 0x0d, 0x0a, value, 0x0d, value, 0x0a, value])),
);
const bytes = `
import sys
for value in range(256):
    sys.stdout.buffer.write(bytes([value, value, 13, 10, value, 13, value, 10, value]))
`;

/** Everything that could end, stop, look into or replace the launcher. */
const attack = `
import ctypes, errno, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
tried = {}
def attempt(name, call):
    try:
        tried[name] = 'done' if call() is not False else 'failed'
    except OSError as error:
        tried[name] = errno.errorcode[error.errno]
def raw(number, *arguments):
    if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), '')
attempt('kill', lambda: os.kill(1, signal.SIGKILL))
attempt('stop', lambda: os.kill(1, signal.SIGSTOP))
attempt('thread', lambda: raw(234, 1, 1, 9))
attempt('pidfd', lambda: os.pidfd_open(1))
attempt('ptrace', lambda: raw(101, 16, 1, 0, 0))
attempt('memory', lambda: open('/proc/1/mem', 'wb'))
attempt('output', lambda: open('/proc/1/fd/1', 'wb'))
attempt('nice', lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
attempt('limits', lambda: __import__('resource').prlimit(1, 7, (0, 0)))
for name in ('/crucible/bin/launcher', '/crucible/config/launcher.json'):
    attempt('write ' + name, lambda: open(name, 'r+b'))
    attempt('remove ' + name, lambda: os.remove(name))
print(json.dumps(tried))
`;

const bomb = `
import os, sys, time
forked = 0
while True:
    try: child = os.fork()
    except OSError as error:
        print(forked, error.errno, flush=True)
        break
    if child == 0: time.sleep(1000)
    forked += 1
    if forked > 2000: break
time.sleep(0.5)
sys.exit(3)
`;

/** Fills every place that can be written to: what /proc/mounts shows, and where Kubernetes puts messages. */
const fill = `
import errno, json, os
places = {}
def fill(path):
    written = 0
    try:
        with open(path, 'wb', buffering=0) as file:
            try:
                while written < 300 << 20: written += file.write(bytes(1 << 20))
            finally: os.unlink(path)
    except OSError as error: return [written >> 20, errno.errorcode[error.errno]]
    return [written >> 20, 'no limit']
for line in open('/proc/mounts'):
    folder = line.split()[1]
    if os.path.isdir(folder) and not folder.startswith('/proc'): places[folder] = fill(folder + '/crucible-fill')
def opened(path):
    try: open(path, 'ab').close()
    except OSError as error: return errno.errorcode[error.errno]
    return 'opened'
places['message'] = [opened(path) for path in ('/crucible/bin/.sealed/message', '/dev/termination-log')]
from multiprocessing import Lock, shared_memory
Lock(); memory = shared_memory.SharedMemory(create=True, size=1 << 20); memory.buf[0] = 1; memory.close(); memory.unlink()
print(json.dumps(places))
`;

const HANG_TIMEOUT = 3;
const GRACE = 5;
const CLASSES = [['runc', undefined], ['gvisor', 'gvisor']] as const;
const CASES = ['bytes', 'attack', 'bomb', 'fill', 'volume', 'root'] as const;
type Case = (typeof CASES)[number];

const runtime = uniqueName('hanging');
const ended = new Map<string, Promise<Evaluation>>();
const result = (name: Case, of: string): Promise<Evaluation> => ended.get(`${name}-${of}`)!;

async function images(): Promise<{ hostile: string; volume: string }> {
  const script = join(import.meta.dirname, '../../deploy/local/load-test-images.sh');
  const { stdout } = await promisify(execFile)(script, ['test-hostile', 'test-volume'], { timeout: 170_000 });
  const named = new Map(stdout.trim().split('\n').map((line) => line.split(' ') as [string, string]));
  return { hostile: named.get('test-hostile')!, volume: named.get('test-volume')! };
}

beforeAll(async () => {
  const { hostile, volume } = await images();
  await apply({
    apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name: runtime },
    spec: { image: hostile, command: ['sh'], entryFile: 'main.sh', launcher: 'Included' },
  });
  const python = (code: string): Record<string, unknown> => ({ runtime: 'python', code });
  const specs: Record<Case, Record<string, unknown>> = {
    bytes: python(bytes), attack: python(attack), // In gVisor a process costs memory: with less, a bomb may end as OutOfMemory first.
    bomb: { ...python(bomb), resources: { memory: '1Gi' } }, fill: python(fill),
    volume: { image: volume, command: ['sh', '-c', 'echo ran > /data/x; echo ran'] },
    root: { image: hostile, command: ['setuid-id'] },
  };
  for (const [name, runtimeClassName] of CLASSES) {
    for (const each of CASES) {
      const of = uniqueName(`hostile-${each}-${name}`);
      const finished = apply(evaluation(of, { timeoutSeconds: 60, ...specs[each], ...(runtimeClassName && { isolation: { runtimeClassName } }) }))
        .then(() => waitFor(of, 'Finished'));
      finished.catch(() => undefined); // told by the test that waits for it
      ended.set(`${each}-${name}`, finished);
    }
  }
}, 240_000);

afterAll(() => ok(['delete', 'evaluationruntime', runtime, '--ignore-not-found']));

const json = <T>(of: Evaluation): T => JSON.parse(of.status!.output!.tail!) as T;

async function captured(of: Evaluation, column: string): Promise<string> {
  return (await sql(`select ${column} from crucible.captures c join crucible.streams s using (evaluation_uid, attempt) where stream = 'stdout' and evaluation_uid = '${of.metadata.uid}'`))[0]![0]!;
}

describe.each(CLASSES)('under %s', (name) => {
  it('output of every byte value is stored as it was written', async () => {
    const of = await result('bytes', name);
    expect(of.status).toMatchObject({ phase: 'Succeeded', output: { complete: true, stdoutBytes: BYTES.length } });
    expect(await captured(of, 's.sha256')).toBe(createHash('sha256').update(BYTES).digest('hex'));
  });

  it('the code neither ends, stops, looks into nor replaces its launcher', async () => {
    const of = await result('attack', name);
    expect(of.status?.phase).toBe('Succeeded');
    const tried = json<Record<string, string>>(of);
    expect(Object.keys(tried)).toHaveLength(13);
    for (const [what, outcome] of Object.entries(tried)) expect(`${what}: ${outcome}`).toMatch(/: (EPERM|EACCES|EROFS|ENOENT)$/);
    expect(await captured(of, "summary->>'reason'")).toBe('exited');
  });

  it('a fork bomb ends at the limit, and nothing else does', async () => {
    const of = await result('bomb', name);
    const [forked, error] = of.status!.output!.tail!.trim().split(' ').map(Number);
    expect(error).toBe(11); // EAGAIN
    expect(forked).toBeGreaterThan(60);
    expect(forked).toBeLessThan(128);
    expect(of.status?.exitCode).toBe(3); // it went on to its own end: neither sandbox nor launcher died of it
    const { verdict } = of.status!;
    console.log(`bomb under ${name} | ${verdict?.class} | ${verdict?.confidence} | ${verdict?.message} | ${JSON.stringify(verdict?.evidence)}`);
    expect(verdict).toMatchObject({ class: 'PidsExceeded', attributableTo: 'Code', confidence: 'Probable' });
  });

  it('every place that can be written to has a limit of its own', async () => {
    const of = await result('fill', name);
    expect(of.status?.phase).toBe('Succeeded');
    const { message, ...places } = json<Record<string, [number, string]>>(of);
    for (const outcome of message!) expect(outcome).toMatch(/^(EACCES|ENOENT|EPERM|EROFS)$/);
    const limits: Record<string, number> = { '/work': 64, '/tmp': 16, '/dev/shm': 16 };
    for (const [place, [written, error]] of Object.entries(places)) {
      // A file may be as large as /work is.
      const full = expect.stringMatching(/^(ENOSPC|EFBIG)$/);
      if (place in limits) expect([place, written <= limits[place]!, error]).toEqual([place, true, full]);
      else expect([place, written, error]).toEqual([place, 0, expect.stringMatching(/^(EACCES|EROFS|EPERM|EMFILE|ENOENT)$/)]);
    }
    expect(Object.keys(places)).toEqual(expect.arrayContaining(Object.keys(limits)));
  });

  it('an image that brings a folder on the node’s disk is not run', async () => {
    const of = await result('volume', name);
    expect(of.status).toMatchObject({ phase: 'Failed', exitCode: 125, output: { stdoutBytes: 0 } });
    expect(JSON.stringify(of.status?.verdict?.evidence)).toMatch(/\/data can be written to.*VOLUME/);
  });

  it('an image of root’s runs as nobody in particular, and its setuid program changes nothing', async () => {
    const of = await result('root', name);
    expect(of.status?.phase).toBe('Succeeded');
    const [, uid] = /^uid=(\d+)/.exec(of.status!.output!.tail!)!;
    expect(Number(uid)).toBeGreaterThanOrEqual(10_000);
    expect(of.status?.output?.tail).not.toMatch(/euid|\b0\(root\)/);
  });

  it('a pod whose launcher hangs is gone by timeout + grace + 5 s', async () => {
    // Alone: the others that begin with it would take its seconds.
    await Promise.allSettled(ended.values());
    const alone = uniqueName(`hostile-hang-${name}`);
    const isolation = name === 'runc' ? {} : { isolation: { runtimeClassName: name } };
    await apply(evaluation(alone, { runtime, code: 'true', timeoutSeconds: HANG_TIMEOUT, ...isolation }));
    const of = await waitFor(alone, 'Finished');
    expect(of.status).toMatchObject({ phase: 'Failed', verdict: { class: 'TimedOut' } });
    const [attempt] = of.status!.attempts!;
    const ran = (Date.parse(attempt!.finishedAt!) - Date.parse(attempt!.startedAt!)) / 1000;
    expect(ran).toBeGreaterThanOrEqual(HANG_TIMEOUT);
    // Both times are whole seconds.
    expect(ran).toBeLessThanOrEqual(HANG_TIMEOUT + GRACE + 5 + 1);
  });

  it('what was measured before the code ran agrees with what Kubernetes says', async () => {
    const of = await result('attack', name);
    const contained = of.status?.conditions?.find(({ type }) => type === 'Contained');
    expect([contained?.status, contained?.message]).toEqual(['True', 'Its containment was measured before the code ran.']);
    const [attempt] = of.status!.attempts!;
    const at = Date.parse(of.status!.receipt!.measuredAt);
    expect(at).toBeGreaterThanOrEqual(Date.parse(attempt!.startedAt!) - 2000);
    expect(at).toBeLessThanOrEqual(Date.parse(attempt!.finishedAt!) + 2000);
    const [[text]] = (await sql(`select receipt from crucible.attempts where evaluation_uid = '${of.metadata.uid}'`)) as [[string]];
    const receipt = JSON.parse(text) as { sandbox: Record<string, unknown>; kubernetes: Record<string, unknown>; mismatches: unknown[] };
    expect(receipt.sandbox).toMatchObject({ launcherShielded: true, processLimitHolds: true, terminationMessageWritable: false });
    expect(receipt.kubernetes).toMatchObject({ imageDigest: expect.stringMatching(/sha256:/), runtimeClassName: name === 'runc' ? null : name });
    expect(receipt.mismatches).toEqual([]);
  });
});

describe('an EvaluationRuntime has no words for', () => {
  const spec = { image: 'docker.io/library/debian:13.1-slim', command: ['sh'], entryFile: 'main.sh' };
  it.each([
    ['root', { securityContext: { runAsUser: 0 } }, /unknown field "spec\.securityContext"/],
    ['a folder of the node', { volumes: [{ name: 'a', hostPath: { path: '/' } }] }, /unknown field "spec\.volumes"/],
    ['a pod template', { podTemplate: {} }, /unknown field "spec\.podTemplate"/],
  ])('%s', async (_what, more, message) => {
    const object = { apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name: uniqueName('bad') }, spec: { ...spec, ...more } };
    expect(await refusal(object)).toMatch(message);
  });

  it('a RuntimeClass that does not exist: its evaluations are refused, never run under another', async () => {
    const name = uniqueName('nowhere');
    await apply({ apiVersion: 'crucible.dev/v1alpha1', kind: 'EvaluationRuntime', metadata: { name }, spec: { ...spec, runtimeClassName: 'stronger' } });
    try {
      await apply(evaluation(name, { runtime: name, code: 'true' }));
      const refused = await waitFor(name, 'Accepted=False', 60);
      expect(refused.status?.conditions?.find(({ type }) => type === 'Accepted')?.message).toMatch(/stronger/);
      expect(refused.status?.attempts ?? []).toEqual([]);
    } finally {
      await ok(['delete', 'evaluation', name, '-n', 'evals', '--ignore-not-found']);
      await ok(['delete', 'evaluationruntime', name]);
    }
  });
});
