import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, isIP } from 'node:net';
import { PEER_GREETING, PEER_PORT } from '../canary.ts';

// The positive control of the network probes: `listener` answers whoever reaches it, and `control`, a pod that no policy
// holds back, tells which addresses answered it just now. Both live in a namespace of their own, without any right.
// What the control tries is decided by where it runs. The one address that it takes, from the operator alone, is that of a
// sandbox that listens for a drill: it tries one port there, and says no more than whether that was such a sandbox.

export const LISTENER_PORT = 8099;
const CONTROL_PORT = 8080;
const PROBE_MS = 3000;
const IDLE_MS = 5000;
const MAX_CONNECTIONS = 64;
/** Kubelet, etcd, API server, node exporter, and the databases and services that nodes often carry. */
const NODE_PORTS = [10250, 10255, 2379, 6443, 9100, 5432, 6379];
/** Postgres says S or N to it, and nothing to HTTP. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const GREETING = 'crucible-drill-listener';

export interface Reached {
  readonly name: string;
  readonly group: string;
  readonly protocol: 'tcp' | 'udp' | 'dns';
  readonly address: string;
  readonly port: number;
  /** What the server said; undefined when nothing did. */
  readonly reply: string | undefined;
}

export function listen(port: number): { close(): void } {
  const tcp = createServer({ pauseOnConnect: false }, (socket) => {
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.once('data', (data) => socket.end(`${GREETING} ${clean(data)}\n`));
  });
  tcp.maxConnections = MAX_CONNECTIONS;
  tcp.listen(port);
  const sockets = (['udp4', 'udp6'] as const).map((type) => {
    const udp = createSocket({ type, ipv6Only: type === 'udp6' });
    // An answer no larger than the question: nobody gains by forging who asked.
    udp.on('message', (data, { address, port: to }) => udp.send(data.subarray(0, 64), to, address));
    // A node without IPv6.
    udp.on('error', () => {});
    udp.bind(port);
    return udp;
  });
  return {
    close: () => {
      tcp.close();
      for (const udp of sockets) udp.close();
    },
  };
}

const clean = (data: Buffer): string =>
  data
    .subarray(0, 64)
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, '.');

type Candidate = Omit<Reached, 'reply'>;

export async function candidates(env: Readonly<Record<string, string | undefined>>): Promise<Candidate[]> {
  const found: Candidate[] = [];
  const add = (group: string, protocol: Candidate['protocol'], address: string, port: number): void => {
    const host = isIP(address) === 6 ? `[${address}]` : address;
    found.push({ name: `${protocol} ${host}:${port}`, group, protocol, address, port });
  };
  const addresses = await lookup(env['LISTENER_HOST'] ?? '', { all: true }).catch(() => []);
  for (const { address } of addresses.slice(0, 4)) {
    add('egress', 'tcp', address, LISTENER_PORT);
    add('egress', 'udp', address, LISTENER_PORT);
  }
  const service = env['KUBERNETES_SERVICE_HOST'];
  if (service !== undefined && isIP(service) > 0)
    add('apiServer', 'tcp', service, Number(env['KUBERNETES_SERVICE_PORT'] ?? 443));
  for (const address of (env['HOST_IPS'] ?? '').split(',').filter((ip) => isIP(ip) > 0)) {
    for (const port of NODE_PORTS) add(port === 6443 ? 'apiServer' : 'node', 'tcp', address, port);
  }
  const resolvers = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  for (const [, address] of [...resolvers.matchAll(/^nameserver\s+(\S+)/gm)].slice(0, 2)) {
    if (address === undefined || isIP(address) === 0 || address.startsWith('127.')) continue;
    add('dns', 'dns', address, 53);
    add('dns', 'tcp', address, 53);
  }
  return found;
}

export async function probe(candidate: Candidate): Promise<Reached> {
  const ask = candidate.protocol === 'tcp' ? askTcp(candidate) : askUdp(candidate);
  return { ...candidate, reply: await ask };
}

function askTcp({ address, port, group }: Candidate): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const end = (reply: string | undefined): void => {
      socket.destroy();
      resolve(reply);
    };
    socket.setTimeout(PROBE_MS, () => end(undefined));
    socket.on('error', () => end(undefined));
    socket.on('close', () => end(undefined));
    socket.once('data', (data) => end(clean(data)));
    // Name servers and Postgres speak their own protocols; everyone else has something to say to HTTP.
    socket.once('connect', () => socket.write(group === 'dns' ? tcpQuery() : port === 5432 ? SSL_REQUEST : 'GET / HTTP/1.0\r\n\r\n'));
  });
}

function askUdp({ address, port, protocol }: Candidate): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4');
    const end = (reply: string | undefined): void => {
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(() => end(undefined), PROBE_MS);
    socket.once('error', () => end(undefined));
    socket.once('message', (data) => end(clean(data)));
    socket.send(protocol === 'dns' ? dnsQuery() : randomBytes(16), port, address);
  });
}

/** A record of the API server's own name, which every cluster has. */
export function dnsQuery(): Buffer {
  const labels = ['kubernetes', 'default', 'svc', 'cluster', 'local'].flatMap((label) => [
    Buffer.from([label.length]),
    Buffer.from(label),
  ]);
  const header = Buffer.from([0x43, 0x52, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
}

function tcpQuery(): Buffer {
  const query = dnsQuery();
  const length = Buffer.alloc(2);
  length.writeUInt16BE(query.length);
  return Buffer.concat([length, query]);
}

export type PeerAnswer = 'answered' | 'connected' | 'silent';

/** Whether a sandbox that listens for a drill can be reached from here: on that port alone, and no word of what it said. */
export async function tryPeer(address: string, port = PEER_PORT): Promise<PeerAnswer> {
  let connected = false;
  const socket = connect({ host: address, port });
  socket.setTimeout(PROBE_MS, () => socket.destroy());
  socket.once('connect', () => {
    connected = true;
    socket.write('GET / HTTP/1.0\r\n\r\n');
  });
  try {
    for await (const data of socket) if ((data as Buffer).toString('latin1').startsWith(PEER_GREETING)) return 'answered';
  } catch {
    // Refused, reset: what was seen until then counts.
  }
  return connected ? 'connected' : 'silent';
}

/** One look at a time, and the last one for whoever asks meanwhile. */
function serveControl(port: number, env: Readonly<Record<string, string | undefined>>): void {
  let running: Promise<Reached[]> | undefined;
  const look = async (): Promise<Reached[]> => await Promise.all((await candidates(env)).map(probe));
  const server = createHttpServer((request, response) => {
    const answer = (value: object): void =>
      void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    const peer = /^\/peer\/([0-9a-f.:]+)$/.exec(request.url ?? '')?.[1];
    if (request.method === 'GET' && peer !== undefined && isIP(peer) > 0) {
      void tryPeer(peer).then((found) => answer({ peer: found }));
      return;
    }
    if (request.method !== 'GET' || (request.url !== '/reached' && request.url !== '/healthz')) {
      response.writeHead(404).end();
      return;
    }
    if (request.url === '/healthz') {
      response.end('ok\n');
      return;
    }
    running ??= look().finally(() => (running = undefined));
    running.then(
      (targets) => answer({ targets }),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = IDLE_MS;
  server.listen(port);
}

export async function main(): Promise<void> {
  const role = process.argv[2];
  if (role === 'listener') listen(LISTENER_PORT);
  else if (role === 'control') serveControl(CONTROL_PORT, process.env);
  else throw new Error(`unknown role "${role ?? ''}": listener or control`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(0));
  await new Promise(() => {});
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
