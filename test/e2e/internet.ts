/**
 * Plays the internet: an authoritative name server for internet.test, on TCP and UDP, and a metadata service that answers
 * every request, in a network namespace that `play` makes at an address which the native cluster's guard keeps on this
 * machine. It notes every name that it is asked for.
 */
import { spawn, execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const NAMESPACE = 'crucible-internet';
const LINK = 'crucible-inet';
const GATEWAY = '198.51.100.1';
/** TEST_INTERNET of deploy/local/settings.sh, and what the cluster's DNS forwards internet.test to. */
export const INTERNET = '198.51.100.2';
export const METADATA_PORT = 80;
const NODE_ADDRESS = '10.250.0.1';
const command = promisify(execFile);

/** Answers any query: the name belongs to this server itself. */
function reply(query: Buffer): { name: string; answer: Buffer } | undefined {
  const labels: string[] = [];
  let at = 12;
  for (; query[at] !== undefined && query[at] !== 0; at += 1 + query[at]!) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
  const end = at + 5;
  if (query.length < end || labels.length === 0) return undefined;
  const question = query.subarray(12, end);
  const header = Buffer.from([query[0]!, query[1]!, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...INTERNET.split('.').map(Number)]);
  return { name: labels.join('.').toLowerCase(), answer: Buffer.concat([header, question, record]) };
}

function serve(): void {
  const udp = createSocket('udp4');
  udp.on('message', (query, { address, port }) => {
    const found = reply(query);
    if (found === undefined) return;
    console.log(found.name);
    udp.send(found.answer, port, address);
  });
  udp.bind(53, INTERNET);
  const tcp = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', (data) => {
      const found = reply(data.subarray(2));
      if (found === undefined) return void socket.destroy();
      console.log(found.name);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(found.answer.length);
      socket.end(Buffer.concat([length, found.answer]));
    });
  });
  tcp.listen(53, INTERNET);
  const metadata = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nami-id\n'));
  });
  metadata.listen(METADATA_PORT, INTERNET);
  void Promise.all([udp, tcp, metadata].map((server) => once(server, 'listening'))).then(() => console.log('ready'));
}

export interface Internet {
  /** Every name that was asked for, by whomever. */
  readonly asked: ReadonlySet<string>;
  stop(): Promise<void>;
}

export async function play(): Promise<Internet> {
  const ip = (...args: string[]): Promise<unknown> => command('ip', args);
  const remove = async (): Promise<void> => {
    await ip('link', 'del', LINK).catch(() => undefined);
    await ip('netns', 'del', NAMESPACE).catch(() => undefined);
  };
  await remove(); // left by a run that was killed
  await ip('netns', 'add', NAMESPACE);
  await ip('link', 'add', LINK, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NAMESPACE);
  await ip('addr', 'add', `${GATEWAY}/32`, 'dev', LINK);
  await ip('link', 'set', LINK, 'up');
  await ip('route', 'add', `${INTERNET}/32`, 'dev', LINK, 'src', NODE_ADDRESS);
  const inside = (...args: string[]): Promise<unknown> => ip('-n', NAMESPACE, ...args);
  await inside('link', 'set', 'lo', 'up');
  await inside('addr', 'add', `${INTERNET}/32`, 'dev', 'eth0');
  await inside('link', 'set', 'eth0', 'up');
  await inside('route', 'add', 'default', 'via', GATEWAY, 'dev', 'eth0', 'onlink');
  const asked = new Set<string>();
  const server = spawn('ip', ['netns', 'exec', NAMESPACE, process.execPath, import.meta.filename], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(server, 'exit');
  const lines = createInterface({ input: server.stdout });
  await Promise.race([once(lines, 'line'), ended.then(() => { throw new Error('the name server ended at once'); })]);
  lines.on('line', (name) => asked.add(name));
  return {
    asked,
    stop: async () => {
      server.kill();
      await ended;
      await remove();
    },
  };
}

if (import.meta.main) serve();
