/**
 * What a hostile author would think of that the sandbox contract does not list, and rules 12 and 13 with every file there
 * is. Each is tried in real pods under both runtime classes, all at once, and harms nobody but its own run.
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

/** The launcher, its stage and whatever else is not the code's: looked into, written to, slowed down, signalled by detours. */
const launcher = `${LIBRARY}
tried = {}
for name in ('mem', 'environ', 'maps', 'auxv', 'stack', 'syscall', 'fd/0', 'fd/1', 'fd/2', 'fd/3', 'root/etc/passwd', 'cwd/x'):
    for mode in (os.O_RDONLY, os.O_WRONLY):
        tried['open %s %d' % (name, mode)] = outcome(lambda: os.close(os.open('/proc/1/' + name, mode)))
def write(path, value):
    descriptor = os.open(path, os.O_WRONLY)
    try: os.write(descriptor, value)
    finally: os.close(descriptor)
for name, value in (('oom_score_adj', b'1000'), ('timerslack_ns', b'1000000000'), ('clear_refs', b'1'), ('coredump_filter', b'0'), ('comm', b'mine'), ('autogroup', b'19'), ('attr/current', b'unconfined'), ('attr/exec', b'unconfined')):
    tried['write ' + name] = outcome(lambda: write('/proc/1/' + name, value))
tried['readlink exe'] = outcome(lambda: os.readlink('/proc/1/exe'))
tried['list fd'] = outcome(lambda: os.listdir('/proc/1/fd'))
tried['list map_files'] = outcome(lambda: os.listdir('/proc/1/map_files'))
buffer = ctypes.create_string_buffer(64)
vector = struct.pack('QQ', ctypes.addressof(buffer), 64)
tried['process_vm_readv'] = outcome(lambda: raw(310, 1, vector, 1, vector, 1, 0))
tried['process_vm_writev'] = outcome(lambda: raw(311, 1, vector, 1, vector, 1, 0))
tried['PTRACE_ATTACH'] = outcome(lambda: raw(101, 16, 1, 0, 0))
tried['PTRACE_SEIZE'] = outcome(lambda: raw(101, 0x4206, 1, 0, 0))
tried['pidfd_getfd'] = outcome(lambda: raw(438, 3, 1, 0))
tried['kcmp'] = outcome(lambda: raw(312, 1, os.getpid(), 0, 1, 1))
tried['prlimit'] = outcome(lambda: raw(302, 1, 7, vector, 0))
tried['join its group'] = outcome(lambda: os.setpgid(0, 1))
tried['lower oom_score_adj'] = outcome(lambda: write('/proc/self/oom_score_adj', b'-1000'))
tried['real-time'] = outcome(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
tried['nice'] = outcome(lambda: os.nice(-5))
tried['limit raised'] = outcome(lambda: __import__('resource').setrlimit(6, (100000, 100000)))
reader, writer = os.pipe()
for name in ('SIGKILL', 'SIGSTOP', 'SIGTERM', 'SIGINT'):
    tried['F_SETSIG ' + name] = outcome(lambda: fcntl.fcntl(reader, 10, int(getattr(signal, name))))
# What remains of that way: an owner that is the launcher, and a signal that it ignores.
try:
    left, right = socket.socketpair()
    fcntl.fcntl(left, fcntl.F_SETOWN, 1)
    fcntl.fcntl(left, fcntl.F_SETFL, fcntl.fcntl(left, fcntl.F_GETFL) | os.O_ASYNC)
    right.send(b'x')
except OSError: pass
# A child whose end is told by SIGKILL or SIGSTOP, and whose parent has gone before: its new parent is the launcher.
for told in (9, 19):
    if os.fork() == 0:
        if libc.syscall(ctypes.c_long(56), ctypes.c_long(told), None, None, None, None) == 0:
            time.sleep(0.3); os._exit(0)
        os._exit(0)
time.sleep(1)
print(json.dumps(tried))
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

/** Frames of the launcher's on every descriptor that could be its own, after its own have been closed. */
const forgery = `${LIBRARY}
forged = b''.join(b'%d %s|%s\\n' % (n, kind, text) for n, kind, text in ((1, b's', b'{"reason":"exited","exitCode":0}'), (999999, b's', b'{"reason":"exited","exitCode":0}'), (2, b'r', b'{"uid":0}'), (3, b'a', b'{"path":"forged","index":0}')))
os.write(1, forged + b'7 s|{"reason"')
reached = []
for path in ['/proc/1/fd/%d' % n for n in range(8)] + ['/dev/stdout', '/dev/stderr', '/dev/console', '/dev/tty', '/dev/pts/0', '/dev/termination-log', '/crucible/bin/.sealed/message']:
    try: descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError: continue
    reached.append(path)
    os.write(descriptor, forged)
os.close(1)
try: os.open('/proc/1/fd/1', os.O_WRONLY); reached.append('reopened')
except OSError: pass
os.write(2, json.dumps(reached).encode() + b'\\n')
os.kill(os.getpid(), signal.SIGKILL)
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
# Allowed, because it reaches nobody else: a program without a file, and sockets without a name in any file system.
program = os.memfd_create('program')
os.write(program, open('/bin/true', 'rb').read())
harmless = {'memfd runs': outcome(lambda: os.waitpid(os.posix_spawn('/proc/self/fd/%d' % program, ['true'], {}), 0)[1] == 0)}
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(b'\\0crucible-e2e')
abstract.listen()
timers, value, more = 0, ctypes.c_int(), 'no limit'
try:
    while timers < 20000: raw(222, 1, None, ctypes.byref(value)); timers += 1
except OSError as error: more = errno.errorcode[error.errno]
floods['timers'] = [timers, more]
harmless['personality'] = outcome(lambda: raw(135, 0x0040000))
others = [line.split()[-1] for line in open('/proc/net/unix') if '@' in line and 'crucible-e2e' not in line] if os.path.exists('/proc/net/unix') else []
print(json.dumps({'tried': tried, 'floods': floods, 'harmless': harmless, 'others': others}))
`;

/** Rules 12 and 13 by looking at everything: no file of the kernel's opens for writing, no device but the harmless ones. */
const files = `${LIBRARY}
hidden = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/kmsg', '/proc/kpagecount', '/proc/sched_debug', '/proc/latency_stats']
def read(path):
    with open(path, 'rb') as file: return file.read(64) != b''
readable = [path for path in hidden if outcome(lambda: read(path)) == 'done']
def writable(root, limit=60000):
    found, seen = [], 0
    for folder, folders, names in os.walk(root):
        if folder == '/proc': folders[:] = [name for name in folders if not name.isdigit()]
        for name in names + ['crucible-new']:
            seen += 1
            path = os.path.join(folder, name)
            # What is masked is /dev/null.
            if os.path.islink(path) or os.path.exists(path) and os.stat(path).st_rdev == os.makedev(1, 3): continue
            flags = os.O_WRONLY | os.O_NONBLOCK | (os.O_CREAT if name == 'crucible-new' else 0)
            # Everybody may ask to be told when processors or memory are short; that changes nothing.
            if folder == '/proc/pressure' and name != 'crucible-new': continue
            if outcome(lambda: os.close(os.open(path, flags))) == 'done': found.append(path)
        if seen > limit: break
    return found, seen
proc, in_proc = writable('/proc')
sys_files, in_sys = writable('/sys')
devices = {}
for path in [os.path.join(folder, name) for folder, _, names in os.walk('/dev') for name in names]:
    try: mode = os.lstat(path).st_mode
    except OSError: continue
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        devices[path] = outcome(lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)))
made = {}
for kind, major, minor in ((stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 10, 232), (stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0)):
    for folder in ('/work', '/tmp', '/dev/shm', '/dev'):
        made['%s %d:%d' % (folder, major, minor)] = outcome(lambda: os.mknod(folder + '/crucible-device', 0o666 | kind, os.makedev(major, minor)))
def tunnel():
    with open('/dev/net/tun', 'r+b', buffering=0) as tun: fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'crucible0', 0x1002))
made['network interface'] = outcome(tunnel)
print(json.dumps({'readable': readable, 'writable': proc[:20] + sys_files[:20], 'seen': [in_proc, in_sys], 'devices': devices, 'made': made}))
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
const CASES = { launcher, massacre, forgery, surfaces, files, race };
type Case = keyof typeof CASES;
const REFUSED = /^(EPERM|EACCES|ENOENT|ENOSYS|EROFS|ESRCH|EBADF|EINVAL|ENODEV|ENXIO|EIO|EISDIR|EOPNOTSUPP|EPROTONOSUPPORT)$/;
const notAmong = (refusals: RegExp, tried: Record<string, string>): string[] =>
  Object.entries(tried).filter(([, answer]) => !refusals.test(answer)).map(([what, answer]) => `${what}: ${answer}`);

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

const stdout = async (of: Evaluation, stream = 'stdout'): Promise<string> =>
  (await sql(`select replace(convert_from(string_agg(data, ''::bytea order by first_seq), 'UTF8'), E'\\n', '') from crucible.output_chunks where evaluation_uid = '${of.metadata.uid}' and stream = '${stream}'`)).map((row) => row.join('|')).join('');
const captured = async (of: Evaluation, column: string): Promise<string> =>
  (await sql(`select ${column} from crucible.captures where evaluation_uid = '${of.metadata.uid}'`))[0]![0]!;

describe.each(CLASSES)('under %s', (name) => {
  it('every detour to the launcher is closed, and it goes on', async () => {
    const of = await result('launcher', name);
    expect(of.status).toMatchObject({ phase: 'Succeeded', exitCode: 0 });
    const tried = JSON.parse(await stdout(of)) as Record<string, string>;
    expect(Object.keys(tried).length).toBeGreaterThan(45);
    // gVisor tells how many descriptors the launcher has, opens none, and keeps priorities that no other kernel hears of.
    const told = name === 'gvisor' ? ['list fd: done', 'lower oom_score_adj: done', 'nice: done'] : [];
    expect(notAmong(REFUSED, tried).filter((said) => !told.includes(said))).toEqual([]);
    expect(await captured(of, "summary->>'reason'")).toBe('exited');
  });

  it('who kills everyone in reach ends only himself: the signal is told, and what was printed is kept', async () => {
    const of = await result('massacre', name);
    expect(of.status).toMatchObject({ phase: 'Failed', verdict: { class: 'Signalled', attributableTo: 'Code' }, output: { complete: true, tail: 'before\n' } });
  });

  it('forged frames are text, the launcher’s own descriptors are out of reach, and the verdict is the true one', async () => {
    const of = await result('forgery', name);
    expect(of.status).toMatchObject({ phase: 'Failed', verdict: { class: 'Signalled' }, output: { complete: true } });
    expect(await stdout(of)).toContain('999999 s|{"reason":"exited","exitCode":0}');
    const reached = JSON.parse(/\[[^[]*\]$/.exec(await stdout(of, 'stderr'))![0]) as string[];
    expect(reached.filter((path) => path.startsWith('/proc/1/') || path === 'reopened' || /termination|sealed|console/.test(path))).toEqual([]);
    expect(await captured(of, "summary->>'reason'")).toBe('signalled');
    expect((await sql(`select count(*) from crucible.artifacts where evaluation_uid = '${of.metadata.uid}'`))[0]![0]).toBe('0');
    expect(of.status?.conditions?.find(({ type }) => type === 'Contained')?.status).toBe('True');
  });

  it('the kernel’s other surfaces are refused or bounded', async () => {
    const of = await result('surfaces', name);
    expect(of.status?.phase).toBe('Succeeded');
    const seen = JSON.parse(await stdout(of)) as { tried: Record<string, string>; floods: Record<string, [number, string]>; harmless: Record<string, string>; others: string[] };
    expect(notAmong(/^(EPERM|EACCES|ENOSYS|EPROTONOSUPPORT|EFBIG|EOPNOTSUPP)$/, seen.tried)).toEqual([]);
    const { timers, ...floods } = seen.floods;
    // gVisor knows no limit of pending signals: there only the run's memory bounds them.
    if (name === 'runc') expect(timers).toEqual([1024, 'EAGAIN']);
    expect(Object.keys(floods)).toHaveLength(5);
    for (const [what, [count, how]] of Object.entries(floods)) expect([what, count <= 20_000, how]).toEqual([what, true, expect.stringMatching(/^(EMFILE|EAGAIN|ENOMEM|ENOSPC)$/)]);
    expect(seen.harmless['memfd runs']).toBe('done');
    expect(seen.others).toEqual([]);
  });

  it('no file of the kernel’s can be written, and no device is there that is not harmless', async () => {
    const of = await result('files', name);
    expect(of.status?.phase).toBe('Succeeded');
    const seen = JSON.parse(await stdout(of)) as { readable: string[]; writable: string[]; seen: [number, number]; devices: Record<string, string>; made: Record<string, string> };
    expect([seen.readable, seen.writable]).toEqual([[], []]);
    expect(seen.seen[0]).toBeGreaterThan(20);
    // gVisor shows fuse and net/tun of its own kernel's to everybody: what is done with them it refuses (mounts, interfaces).
    const harmless = name === 'gvisor' ? /^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/(ptmx|\d+)|console|fuse|net\/tun)$/ : /^\/dev\/(null|zero|full|random|urandom|tty|ptmx|pts\/(ptmx|\d+)|console)$/;
    expect(notAmong(REFUSED, seen.devices).filter((said) => !harmless.test(said.split(': ')[0]!))).toEqual([]);
    expect(notAmong(/^(EPERM|EACCES|EROFS|ENOENT)$/, seen.made)).toEqual([]);
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
