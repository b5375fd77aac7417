/** What leaves a sandbox, and what gets into one: everybody tries everybody, and names that a server of ours would hear of. */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  apply, controlPod, DRILL_NAMESPACE, evaluation, eventually, getEvaluation, getJson, NAMESPACE, ok, sql, sweepControls, uniqueName, waitFor,
} from './cluster.ts';
import { INTERNET, play } from './internet.ts';
import type { Internet } from './internet.ts';

const native = existsSync('/run/crucible/commands/netpol');
const CLASSES = ['runc', 'gvisor'] as const;
const isolation = (name: string): object => (name === 'runc' ? {} : { isolation: { runtimeClassName: name } });
const logs = (pod: string): Promise<string> => ok(['logs', pod, '-n', DRILL_NAMESPACE]);

beforeAll(() => sweepControls());
afterAll(() => sweepControls());

/**
 * Listens on some ports, and tries the same ports of every address around its own, over and over. Pods that are made one
 * after the other have addresses side by side on the native cluster, and all of these are on this machine. Bounded: 150 s.
 */
const everybody = (name: string): string => `
import json, select, socket, threading, time
NAME, PORTS = b'crucible-peer ${name}', (8099, 31337, 65535)
own = socket.gethostbyname(socket.gethostname())
prefix, last = own.rsplit('.', 1)
around = ['%s.%d' % (prefix, n) for n in range(max(1, int(last) - 30), min(254, int(last) + 30) + 1)]
found = set()
def serve(server):
    while True:
        connection, _ = server.accept()
        with connection: connection.sendall(NAME)
for port in PORTS:
    threading.Thread(target=serve, args=(socket.create_server(('', port), backlog=64),), daemon=True).start()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(('', PORTS[0]))
def converse():
    while True:
        try:
            data, address = datagrams.recvfrom(100)
            if data == b'who': datagrams.sendto(NAME, address)
            elif data.startswith(b'crucible-peer '): found.add('udp ' + data.split()[1].decode())
        except OSError: pass
threading.Thread(target=converse, daemon=True).start()
def send(address):
    try: datagrams.sendto(b'who', (address, PORTS[0]))
    except OSError: pass
def sweep():
    waiting = {}
    for address in around:
        send(address)
        for port in PORTS:
            tried = socket.socket()
            tried.setblocking(False)
            tried.connect_ex((address, port))
            waiting[tried] = port
    end = time.monotonic() + 1.5
    while waiting and time.monotonic() < end:
        for tried in select.select([], list(waiting), [], 0.2)[1]:
            port = waiting.pop(tried)
            with tried:
                try:
                    tried.settimeout(1)
                    reply = tried.recv(100)
                    if reply.startswith(b'crucible-peer '): found.add('tcp %d %s' % (port, reply.split()[1].decode()))
                except OSError: pass
    for tried in waiting: tried.close()
for number in range(75):
    sweep()
    print(json.dumps([number, sorted(found)]), flush=True)
`;

/** The last complete line that a run of `everybody` printed. */
function lastOf(output: string): { sweeps: number; found: string[] } {
  const line = output.trimEnd().split('\n').at(-1) || '[-1, []]';
  const [sweeps, found] = JSON.parse(line) as [number, string[]];
  return { sweeps, found };
}

describe.runIf(native)('sandboxes and everybody else', () => {
  const sandboxes = [...CLASSES, ...CLASSES].map((name) => ({ name: uniqueName(`peer-${name}`), of: name }));
  const ports = ['tcp 31337', 'tcp 65535', 'tcp 8099', 'udp'];
  const allOf = (name: string): string[] => ports.map((port) => `${port} ${name}`);
  let controls: string[];
  const uids = new Map<string, string>();

  const sweptBy = async (name: string, sweeps: number): Promise<true | undefined> => {
    const rows = await sql(`select count(*) from crucible.output_chunks where evaluation_uid = '${uids.get(name)}' and position('[${sweeps},'::bytea in data) > 0`);
    return rows[0]?.[0] === '0' ? undefined : true;
  };

  beforeAll(async () => {
    controls = [await controlPod('everybody', everybody('one')), await controlPod('everybody', everybody('two'))];
    for (const { name, of } of sandboxes)
      await apply(evaluation(name, { runtime: 'python', code: everybody(name), timeoutSeconds: 160, resources: { memory: '128Mi' }, ...isolation(of) }));
    for (const { name } of sandboxes) uids.set(name, (await waitFor(name, 'Started', 90)).metadata.uid!);
    // All are there by now: three sweeps more of each have tried them all.
    for (const { name } of sandboxes) await eventually(`three sweeps of ${name}`, 60, () => sweptBy(name, 3));
    const before = lastOf(await logs(controls[0]!)).sweeps;
    await eventually('three sweeps of a control', 60, async () => (lastOf(await logs(controls[0]!)).sweeps >= before + 3 ? true : undefined));
    for (const { name } of sandboxes) await ok(['patch', 'evaluation', name, '-n', NAMESPACE, '--type=merge', '-p', '{"spec":{"cancel":true}}']);
  }, 300_000);

  it('the probe finds whom nothing holds back, on every port', async () => {
    expect(lastOf(await logs(controls[0]!)).found).toEqual(expect.arrayContaining(allOf('two')));
    expect(lastOf(await logs(controls[1]!)).found).toEqual(expect.arrayContaining(allOf('one')));
  });

  it('nobody gets into a sandbox, on any port', async () => {
    for (const pod of controls) expect(lastOf(await logs(pod)).found.filter((name) => name.includes('peer-'))).toEqual([]);
  });

  it.each(sandboxes)('$name reaches itself and nobody else, neither sandbox nor pod', async ({ name }) => {
    await waitFor(name, 'Finished');
    const { sweeps, found } = lastOf((await getEvaluation(name)).status!.output!.tail!);
    expect(sweeps).toBeGreaterThanOrEqual(3);
    expect(found).toEqual(allOf(name));
  });
});

/** Every way that a name could leave by: each asks for one of its own, which nobody has ever asked for. */
const names = (nonce: string, addresses: Record<string, string>): string => `
import json, socket, struct, threading
def query(name):
    labels = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.'))
    return struct.pack('>HHHHHH', 7, 0x0100, 1, 0, 0, 0) + labels + bytes(1) + struct.pack('>HH', 1, 1)
said = {}
def ask(way, call):
    name = '%s-${nonce}.internet.test' % way
    try: said[way] = repr(call(name))[:100]
    except OSError as error: said[way] = 'refused: %s' % error
# Datagrams are sent again, as TCP does by itself: a pod is closed until the network policies know it.
def udp(address):
    def call(name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            for attempt in range(5):
                s.sendto(query(name), (address, 53))
                try: return len(s.recv(512))
                except socket.timeout as error: last = error
            raise last
    return call
def tcp(address):
    def call(name):
        with socket.create_connection((address, 53), timeout=5) as s:
            s.sendall(struct.pack('>H', len(query(name))) + query(name)); return len(s.recv(512))
    return call
addresses = json.loads('''${JSON.stringify(addresses)}''')
for line in open('/etc/resolv.conf'):
    if line.startswith('nameserver'): addresses['named'] = line.split()[1]
ways = {'resolver': lambda name: socket.getaddrinfo(name, 80)[0][4][0]}
for where, address in addresses.items(): ways['udp-' + where], ways['tcp-' + where] = udp(address), tcp(address)
threads = [threading.Thread(target=ask, args=way) for way in ways.items()]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(said), flush=True)
`;

describe.runIf(native)('names', () => {
  let internet: Internet;
  beforeAll(async () => void (internet = await play()));
  afterAll(() => internet?.stop());

  it('none that a sandbox asks for, on any way, reaches the server that is asked for those of a control pod', async () => {
    const dns = (await ok(['get', 'service', 'kube-dns', '-n', 'kube-system', '-o', 'jsonpath={.spec.clusterIP}'])).trim();
    const pod = (await ok(['get', 'pods', '-n', 'kube-system', '-l', 'k8s-app=kube-dns', '-o', 'jsonpath={.items[0].status.podIP}'])).trim();
    const node = (await getJson<{ items: { status: { addresses: { type: string; address: string }[] } }[] }>(['nodes'])).items[0]!.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
    const addresses = { cluster: dns, server: pod, node, internet: INTERNET };
    const runs = CLASSES.map((of) => ({ of, nonce: uniqueName(of), name: uniqueName(`names-${of}`) }));
    for (const { of, nonce, name } of runs)
      await apply(evaluation(name, { runtime: 'python', code: names(nonce, addresses), timeoutSeconds: 60, ...isolation(of) }));
    const ended = await Promise.all(runs.map(({ name }) => waitFor(name, 'Finished')));
    // After them, so that theirs had all the time that the control's had.
    const control = uniqueName('control');
    const asking = await controlPod('names', names(control, addresses));
    const heard = (way: string): boolean => internet.asked.has(`${way}-${control}.internet.test`);
    const open = ['resolver', 'udp-named', 'tcp-named', 'udp-cluster', 'tcp-cluster', 'udp-server', 'tcp-server', 'udp-internet', 'tcp-internet'];
    await eventually(`the control's names arrive`, 60, async () => (open.every(heard) ? true : undefined)).catch(async (error: unknown) => {
      throw new Error(`${String(error)}; asked: ${[...internet.asked].join(' ')}; control: ${await logs(asking)}`);
    });
    for (const [index, { nonce }] of runs.entries()) {
      const said = JSON.parse(ended[index]!.status!.output!.tail!) as Record<string, string>;
      expect(Object.keys(said)).toHaveLength(11);
      for (const [way, answer] of Object.entries(said)) expect(`${way}: ${answer}`).toMatch(/: refused: /);
      expect([...internet.asked].filter((name) => name.includes(nonce))).toEqual([]);
    }
  });
});
