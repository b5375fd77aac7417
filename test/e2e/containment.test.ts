/** What the code inside a sandbox can see and reach, under both runtime classes; with the controls that show the probe works. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apply, condition, controlPod, DRILL_NAMESPACE, evaluation, eventually, getJson, NAMESPACE, ok, run, sql, sweepControls, uniqueName, waitFor } from './cluster.ts';

const facts = `
import glob, json, os
status = dict(line.rstrip().split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
def refused(path):
    try:
        open(path, 'w').close()
        return False
    except OSError as error:
        return os.strerror(error.errno)
print(json.dumps({
    'uid': os.getuid(), 'gid': os.getgid(), 'groups': os.getgroups(),
    'capabilities': [status[name] for name in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb')],
    'noNewPrivs': status.get('NoNewPrivs'), 'seccomp': status.get('Seccomp'),
    'tokens': glob.glob('/var/run/secrets/**', recursive=True) + glob.glob('/run/secrets/**', recursive=True),
    'root': [refused(p) for p in ('/x', '/usr/x', '/etc/x')],
    'rootOptions': [line.split()[3].split(',') for line in open('/proc/mounts') if line.split()[1] == '/'][-1],
    'environment': sorted(os.environ),
    'kernel': open('/proc/version').read(),
    'pid1': open('/proc/1/comm').read().strip(),
}))
`;

/** Says what the server answers, not merely that a connection opened. Bounded: one attempt of 5 s. */
const probe = (address: string): string => `
import socket, ssl, json
try:
    raw = socket.create_connection(('${address}', ADDRESS_PORT), timeout=5)
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    tls = context.wrap_socket(raw)
    tls.sendall(b'GET /version HTTP/1.1\\r\\nHost: kubernetes\\r\\nConnection: close\\r\\n\\r\\n')
    reply = b''
    while part := tls.recv(4096): reply += part
    print(json.dumps({'reply': reply.decode()[:2000]}))
except OSError as error:
    print(json.dumps({'error': str(error)}))
`;

interface Endpoint {
  ip: string;
  port: number;
}

/** The API server's own address, behind its Service. */
async function apiServer(): Promise<Endpoint> {
  const slices = await getJson<{ items: { endpoints: { addresses: string[] }[]; ports: { port: number }[] }[] }>([
    'endpointslices', '-n', 'default', '-l', 'kubernetes.io/service-name=kubernetes',
  ]);
  const slice = slices.items[0]!;
  return { ip: slice.endpoints[0]!.addresses[0]!, port: slice.ports[0]!.port };
}

const code = (endpoint: Endpoint): string => probe(endpoint.ip).replace('ADDRESS_PORT', String(endpoint.port));

async function probeFromSandbox(endpoint: Endpoint, runtimeClassName?: string): Promise<{ reply?: string; error?: string }> {
  const result = await run({ runtime: 'python', code: code(endpoint), ...(runtimeClassName ? { isolation: { runtimeClassName } } : {}) }, 'probe');
  expect(result.status?.phase).toBe('Succeeded');
  return JSON.parse(result.status!.output!.tail!) as { reply?: string; error?: string };
}

describe.each([['runc', undefined], ['gvisor', 'gvisor']] as const)('inside a sandbox under %s', (name, runtimeClassName) => {
  let seen: Record<string, unknown>;

  beforeAll(async () => {
    const result = await run({ runtime: 'python', code: facts, ...(runtimeClassName ? { isolation: { runtimeClassName } } : {}) }, `facts-${name}`);
    expect(result.status?.phase).toBe('Succeeded');
    seen = JSON.parse(result.status!.output!.tail!) as Record<string, unknown>;
  });

  it('uid and gid are at least 10000 and no group is root', () => {
    expect(seen['uid']).toBeGreaterThanOrEqual(10_000);
    expect(seen['gid']).toBeGreaterThanOrEqual(10_000);
    expect(seen['groups']).not.toContain(0);
  });
  it('every capability set is empty', () => {
    for (const set of seen['capabilities'] as string[]) expect(Number.parseInt(set, 16)).toBe(0);
  });
  it('no_new_privs and a seccomp filter are on', () => {
    expect(seen['noNewPrivs']).toBe('1');
    expect(seen['seccomp']).toBe('2');
  });
  it('there is no service-account token', () => expect(seen['tokens']).toEqual([]));
  it('the root file system is read-only', () => {
    expect(seen['rootOptions']).toContain('ro');
    // gVisor looks at the folder's permissions before it looks at the mount.
    for (const answer of seen['root'] as (string | false)[]) expect(answer).toMatch(/^(Read-only file system|Permission denied)$/);
  });
  it('the environment holds nothing of the platform', () => {
    const known = ['HOME', 'LANG', 'LC_CTYPE', 'PATH', 'TMPDIR'];
    expect((seen['environment'] as string[]).filter((key) => !known.includes(key))).toEqual([]);
  });
  it('the launcher is PID 1 and the kernel is the right one', () => {
    expect(seen['pid1']).toBe('launcher');
    if (runtimeClassName) expect(seen['kernel']).toMatch(/gvisor/i);
    else expect(seen['kernel']).not.toMatch(/gvisor/i);
  });
  it('the API server cannot be reached, by its own address nor by its Service', async () => {
    const service = { ip: (await ok(['get', 'service', 'kubernetes', '-o', 'jsonpath={.spec.clusterIP}'])).trim(), port: 443 };
    for (const endpoint of [await apiServer(), service]) {
      const answer = await probeFromSandbox(endpoint, runtimeClassName);
      expect(answer.reply).toBeUndefined();
      expect(answer.error).toMatch(/timed out|refused|unreachable|No route/i);
    }
  });
});

/**
 * Nothing is admitted while the policy is away, so this one is in its sandbox before: it says when it gets through and
 * when it no longer does. Bounded: two minutes in all.
 */
const watcher = ({ ip, port }: Endpoint): string => `
import socket, time
def answer():
    try:
        with socket.create_connection(('${ip}', ${port}), timeout=1) as connection:
            connection.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            return connection.recv(100)
    except OSError:
        return b''
def wait(wanted):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        reply = answer()
        if bool(reply) == wanted: return reply
        time.sleep(0.2)
    raise SystemExit('it did not change')
print('closed' if not answer() else 'OPEN AT THE START', flush=True)
print('opened', wait(True)[:40], flush=True)
wait(False)
print('closed again', flush=True)
`;

describe('the probe itself', () => {
  const policy = 'crucible-default-deny';
  let saved: Record<string, unknown> | undefined;

  afterAll(async () => {
    if (saved) await apply(saved);
    await sweepControls();
  });

  it('reads the server’s reply with the same image in a namespace without the policy', async () => {
    const endpoint = await apiServer();
    const control = await controlPod('control', code(endpoint));
    const log = await eventually('the control pod ends', 60, async () => {
      const phase = await ok(['get', 'pod', control, '-n', DRILL_NAMESPACE, '-o', 'jsonpath={.status.phase}']);
      return phase === 'Succeeded' || phase === 'Failed' ? ok(['logs', control, '-n', DRILL_NAMESPACE]) : undefined;
    });
    expect((JSON.parse(log) as { reply?: string }).reply).toMatch(/^HTTP\/1\.1 (200|401|403)/);
  });

  it('gets through from a sandbox while the policy is deleted, and not once it is back; meanwhile nothing is admitted', async () => {
    const inside = uniqueName('watcher');
    await apply(evaluation(inside, { runtime: 'python', code: watcher(await apiServer()), timeoutSeconds: 130 }));
    const uid = (await waitFor(inside, 'Started', 60)).metadata!.uid!;
    const printed = async (text: string): Promise<true | undefined> => {
      const rows = await sql(`select count(*) from crucible.output_chunks where evaluation_uid = '${uid}' and position('${text}'::bytea in data) > 0`);
      return rows[0]?.[0] === '1' ? true : undefined;
    };
    await eventually('the sandbox is closed', 30, () => printed('closed'));
    const object = await getJson<{ metadata: Record<string, unknown> }>(['networkpolicy', policy, '-n', NAMESPACE]);
    for (const field of ['resourceVersion', 'uid', 'creationTimestamp', 'generation', 'managedFields']) delete object.metadata[field];
    saved = object as unknown as Record<string, unknown>;
    await ok(['delete', 'networkpolicy', policy, '-n', NAMESPACE]);
    await eventually('the sandbox gets through', 30, () => printed('opened'));

    const late = uniqueName('late');
    await apply(evaluation(late, { runtime: 'python', code: 'print(1)' }));
    const waiting = await waitFor(late, 'Accepted=Unknown', 30);
    expect(waiting.status?.attempts ?? []).toEqual([]);
    expect(condition(waiting, 'Accepted')?.message).toMatch(/crucible-default-deny|rule/);

    await apply(saved);
    saved = undefined;
    const result = await waitFor(inside, 'Finished', 90);
    expect(result.status?.output?.tail).toMatch(/^closed\nopened b'HTTP.*\nclosed again\n$/s);
    // The drill is repeated by itself, and then the one that waited goes.
    expect((await waitFor(late, 'Finished')).status?.phase).toBe('Succeeded');
  });
});
