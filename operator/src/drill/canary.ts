import type { Attack } from './attack.ts';

// The program of a canary: a small library, the attacks, and a main part that runs them one by one, each bounded in
// time, and prints one line of JSON for each. The addresses are tried first of all, while the sandbox is youngest.

/** No probe of an address takes longer. */
export const REACH_SECONDS = 3;

export interface Target {
  readonly name: string;
  readonly group: string;
  readonly protocol: 'tcp' | 'udp' | 'dns';
  readonly address: string;
  readonly port: number;
}

export const LIBRARY = String.raw`
import ctypes, errno, glob, json, os, platform, resource, signal, socket, stat, struct, sys, threading, time

ATTACKS = []
def attack(name):
    def add(function):
        ATTACKS.append((name, function))
        return function
    return add

def check(name, blocked, detail=''):
    return {'check': name, 'blocked': blocked, 'detail': str(detail)[:120]}

def why(error):
    return errno.errorcode.get(error.errno, str(error)) if isinstance(error, OSError) and error.errno else str(error) or type(error).__name__

def status():
    return dict(line.rstrip('\n').split(':\t', 1) for line in open('/proc/self/status') if ':\t' in line)

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def syscall(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return result, ctypes.get_errno()

# What a child does is gone with it: identities, namespaces, mounts. It answers with one line.
def in_child(function):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(function())
        except BaseException as error:
            answer = json.dumps([None, why(error)])
        try:
            os.write(writer, answer.encode()[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else [None, 'the child ended without an answer']

# True is refused by permission or by the filter. Anything else (a bad argument, success) got past it.
REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES)
def refused(number, *arguments):
    result, error = syscall(number, *arguments)
    return error in REFUSALS if result == -1 else False, errno.errorcode.get(error, 'allowed') if result == -1 else 'allowed'

# Every file below a folder. Who cannot look at all of them in time has not shown that there is none.
def walk(root, seconds=5):
    end, seen = time.monotonic() + seconds, 0
    for folder, folders, files in os.walk(root):
        if folder == '/':
            folders[:] = [name for name in folders if name not in ('proc', 'sys')]
        for name in files:
            seen += 1
            yield os.path.join(folder, name)
        if time.monotonic() > end:
            raise TimeoutError('only %d files below %s looked at within %d s' % (seen, root, seconds))

# With their kinds and bits, looked at once for all attacks that ask.
MODES = []
def modes():
    if not MODES:
        found = []
        for path in walk('/', 14):
            try:
                found.append((path, os.lstat(path).st_mode))
            except OSError:
                pass
        MODES.extend(found)
    return MODES

def query():
    labels = b''.join(bytes([len(part)]) + part for part in (b'kubernetes', b'default', b'svc', b'cluster', b'local'))
    return struct.pack('>HHHHHH', 0x4352, 0x0100, 1, 0, 0, 0) + labels + b'\0' + struct.pack('>HH', 1, 1)

# Each server in its own words (SSLRequest is Postgres'); everyone else has something to say to HTTP.
def question(target):
    if target['group'] == 'dns': return struct.pack('>H', len(query())) + query()
    return struct.pack('>II', 8, 80877103) if target['port'] == 5432 else b'GET / HTTP/1.0\r\n\r\n'

# Judged by the server's own reply: something in between may accept a connection and never answer.
def reach(target, seconds):
    address, port, protocol = target['address'], target['port'], target['protocol']
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    try:
        if protocol == 'tcp':
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect((address, port))
                try:
                    asked = question(target)
                    connection.sendall(asked)
                    reply = connection.recv(200)
                except OSError as error:
                    return check(target['name'], None, 'connected, then ' + why(error))
                return check(target['name'], False if reply else None, 'connected; reply ' + repr(reply[:60]))
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.settimeout(seconds)
            connection.sendto(query() if protocol == 'dns' else b'crucible-drill', (address, port))
            reply, _ = connection.recvfrom(512)
            return check(target['name'], False, 'reply ' + repr(reply[:60]))
    except OSError as error:
        return check(target['name'], True, why(error))

def reach_all(targets, seconds):
    results = []
    threads = [threading.Thread(target=lambda t=t: results.append((t, reach(t, seconds))), daemon=True) for t in targets]
    for thread in threads: thread.start()
    for thread in threads: thread.join(2 * seconds + 1)
    return list(results)

def bounded(seconds, function):
    def over(*_):
        raise TimeoutError('not done within %d s' % seconds)
    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        return function()
    finally:
        signal.alarm(0)

def say(name, checks):
    print(json.dumps({'attack': name, 'checks': checks}), flush=True)

TARGETS = []
def main(targets, seconds):
    TARGETS.extend(targets)
    groups = {}
    for target, result in reach_all(targets, seconds):
        groups.setdefault(target['group'], []).append(result)
    for group, checks in groups.items():
        say('reach:' + group, checks)
    for name, function in ATTACKS:
        try:
            say(name, bounded(16, function))
        except BaseException as error:
            say(name, [check('probe', None, 'failed: ' + why(error))])
`;

/** The whole program. `targets` is a Python expression that gives the list of addresses. */
export function canaryProgram(attacks: readonly Attack[], targets: string): string {
  const sources = attacks.flatMap(({ method }) => (method.kind === 'inside' ? [method.source] : []));
  return [LIBRARY, ...sources, `main(${targets}, ${REACH_SECONDS})`, ''].join('\n');
}

/** Where the canary finds its addresses. */
export const TARGETS_FILE = 'targets.json';
export const TARGETS_EXPRESSION = `json.load(open('/crucible/code/${TARGETS_FILE}'))`;

/** What a second sandbox runs for the canary to try to reach: it listens, and shows that it does. */
export const PEER_PORT = 8099;
export const PEER_GREETING = 'crucible-drill-peer';
export const PEER_PROGRAM = String.raw`
import json, socket, threading, time
server = socket.create_server(('', ${PEER_PORT}), backlog=8)
def serve():
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(2)
            try:
                connection.recv(200)
                connection.sendall(b'${PEER_GREETING}\n')
            except OSError:
                pass
threading.Thread(target=serve, daemon=True).start()
# Its own address, which the kubelet writes into /etc/hosts: whoever is let in gets an answer there.
own = socket.gethostbyname(socket.gethostname())
with socket.create_connection((own, ${PEER_PORT}), timeout=5) as connection:
    connection.sendall(b'hello')
    print(json.dumps({'peer': own, 'reply': connection.recv(100).decode()}), flush=True)
time.sleep(120)
`;
