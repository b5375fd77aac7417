/**
 * What a hostile author would think of that the sandbox contract does not list. Each is tried in real pods under both runtime classes, all at once, and harms nobody but its own run.
 */
import { createHash } from 'node:crypto';
import type { Evaluation } from '@crucible/crds';
import { beforeAll, describe, expect, it } from 'vitest';
import { apply, evaluation, sql, uniqueName, waitFor } from './cluster.ts';

const LIBRARY = `
import ctypes, errno, fcntl, glob, json, os, signal, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def outcome(call):
    try: return 'done' if call() is not False else 'failed'
    except OSError as error: return errno.errorcode.get(error.errno, str(error))
    except ValueError as error: return 'EPERM' if 'not allowed' in str(error) else str(error)
`;

/** Everyone it can reach, its own main program among them, from a child that has detached itself. */
const massacre = `${LIBRARY}
print('before', flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os._exit(0)
time.sleep(30)
print('after', flush=True)
`;

/** What is refused, and what is allowed because it reaches nobody else. */
const surfaces = `${LIBRARY}
tried = {}
for family, protocol in (('audit', 9), ('connector', 11), ('netfilter', 12), ('uevent', 15), ('crypto', 21), ('diag', 4)):
    tried['netlink ' + family] = outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
def route():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(2)
        # RTM_NEWLINK: the loopback interface is taken down
        netlink.send(struct.pack('IHHIIBxHiII', 32, 16, 5, 1, 0, 0, 0, 1, 0, 1))
        code = struct.unpack('i', netlink.recv(1024)[16:20])[0]
        if code < 0: raise OSError(-code, '')
tried['route changed'] = outcome(route)
for name, number in (('fanotify_init', 300), ('add_key', 248), ('request_key', 249), ('keyctl', 250), ('io_uring_setup', 425), ('open_by_handle_at', 304), ('mq_open', 240), ('kexec_load', 246), ('iopl', 172), ('syslog', 103)):
    tried[name] = outcome(lambda: raw(number, 0, 0, 0, 0, 0))
tried['user namespace'] = outcome(lambda: raw(272, 0x10000000))
tried['terabyte'] = outcome(lambda: os.truncate(os.open('/work/sparse', os.O_CREAT | os.O_RDWR), 1 << 40))
tried['terabyte in memory'] = outcome(lambda: os.ftruncate(os.memfd_create('sparse'), 1 << 40))
def flood(make, most):
    kept = []
    try:
        while len(kept) < most: kept.append(make())
    except OSError as error: return [len(kept), errno.errorcode[error.errno]]
    finally:
        for each in kept:
            if isinstance(each, int): os.close(each)
    return [len(kept), 'no limit']
floods = {
    'inotify': flood(lambda: raw(294, 0), 5000),
    'epoll': flood(lambda: raw(291, 0), 5000),
    'eventfd': flood(lambda: raw(290, 0, 0), 5000),
    'timerfd': flood(lambda: raw(283, 1, 0), 5000),
    'memfd': flood(lambda: os.memfd_create('flood'), 5000),
}
print(json.dumps({'tried': tried, 'floods': floods}))
`;

/** After the program's end a child that has detached itself goes on to exchange the artifact for a link out of the sandbox. */
const race = `${LIBRARY}
os.makedirs('/work/out', exist_ok=True)
open('/work/out/mine', 'w').write('mine')
open('/work/mine', 'w').write('mine')
for target in ('/etc/passwd', '/crucible/config/launcher.json', '/proc/1/environ'):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for number in range(10 ** 9):
            try:
                if number % 2: os.link('/work/mine', '/work/new%d' % os.getpid())
                else: os.symlink(target, '/work/new%d' % os.getpid())
                os.rename('/work/new%d' % os.getpid(), '/work/out/mine')
            except OSError: pass
time.sleep(0.5)
print('done')
`;

const CLASSES = [['runc', undefined], ['gvisor', 'gvisor']] as const;
const CASES = { massacre, surfaces, race };
type Case = keyof typeof CASES;

const ended = new Map<string, Promise<Evaluation>>();
const result = (name: Case, of: string): Promise<Evaluation> => ended.get(`${name}-${of}`)!;

beforeAll(async () => {
  for (const [of, runtimeClassName] of CLASSES) {
    for (const [name, code] of Object.entries(CASES)) {
      const named = uniqueName(`inventive-${name}-${of}`);
      const artifacts = name === 'race' ? { artifacts: { paths: ['out/**'] } } : {};
      const isolation = runtimeClassName === undefined ? {} : { isolation: { runtimeClassName } };
      const finished = apply(evaluation(named, { runtime: 'python', code, timeoutSeconds: 60, ...artifacts, ...isolation })).then(() => waitFor(named, 'Finished'));
      finished.catch(() => undefined); // told by the test that waits for it
      ended.set(`${name}-${of}`, finished);
    }
  }
});

const stdout = async (of: Evaluation): Promise<string> =>
  (await sql(`select replace(convert_from(string_agg(data, ''::bytea order by first_seq), 'UTF8'), E'\\n', '') from crucible.output_chunks where evaluation_uid = '${of.metadata.uid}' and stream = 'stdout'`)).map((row) => row.join('|')).join('');

describe.each(CLASSES)('under %s', (name) => {
  it('who kills everyone in reach ends only himself: the signal is told, and what was printed is kept', async () => {
    const of = await result('massacre', name);
    expect(of.status).toMatchObject({ phase: 'Failed', verdict: { class: 'Signalled', attributableTo: 'Code' }, output: { complete: true, tail: 'before\n' } });
  });

  it('the kernel’s other surfaces are refused or bounded', async () => {
    const of = await result('surfaces', name);
    expect(of.status?.phase).toBe('Succeeded');
    const seen = JSON.parse(await stdout(of)) as { tried: Record<string, string>; floods: Record<string, [number, string]>; };
    for (const [what, answer] of Object.entries(seen.tried)) expect(`${what}: ${answer}`).toMatch(/: (EPERM|EACCES|ENOSYS|EPROTONOSUPPORT|EFBIG|EOPNOTSUPP)$/);
    for (const [what, [count, how]] of Object.entries(seen.floods)) expect([what, count <= 20_000, how]).toEqual([what, true, expect.stringMatching(/^(EMFILE|EAGAIN|ENOMEM|ENOSPC)$/)]);
  });

  it('an artifact that is exchanged for a link while it is collected is its own content or refused', async () => {
    const of = await result('race', name);
    expect(of.status?.phase).toBe('Succeeded');
    const rows = await sql(`select path, coalesce(refused, ''), coalesce(sha256, '') from crucible.artifacts where evaluation_uid = '${of.metadata.uid}'`);
    expect(rows.length).toBeLessThanOrEqual(1);
    for (const [path, refused, sha256] of rows) {
      expect(path).toBe('out/mine');
      if (refused === '') expect(sha256).toBe(createHash('sha256').update('mine').digest('hex'));
    }
  });
});
