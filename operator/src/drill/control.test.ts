import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../../../test/integration/processes.ts';
import { PEER_GREETING } from './canary.ts';
import { dnsQuery, listen, probe, tryPeer } from './control/main.ts';
import { controlAt, peerThrough } from './control.ts';

const closing: (() => void)[] = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

async function answering(status: number, body: string): Promise<string> {
  const server = createServer((_, response) => response.writeHead(status).end(body)).listen(0, '127.0.0.1');
  closing.push(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const ask = (url: string | undefined) => controlAt(url)(new AbortController().signal);
const target = { name: 'tcp 10.0.0.1:8099', group: 'egress', protocol: 'tcp', address: '10.0.0.1', port: 8099 };

it('gives the addresses that answered the control, and only those', async () => {
  const url = await answering(
    200,
    JSON.stringify({
      targets: [
        { ...target, reply: 'hi' },
        { ...target, name: 'b' },
        { ...target, reply: '' },
      ],
    }),
  );
  expect(await ask(url)).toEqual({ targets: [target] });
});

it.each([
  ['no control', undefined],
  ['nobody there', 'http://127.0.0.1:1'],
])('says what is wrong with %s', async (_what, url) => {
  expect(await ask(url)).toEqual({ problem: expect.stringMatching(/control/) as string });
});

it.each([
  ['an error', 500, '{}'],
  ['no JSON', 200, '<html>'],
  ['an address that is a name', 200, JSON.stringify({ targets: [{ ...target, address: 'example.com', reply: 'x' }] })],
  ['a group of its own', 200, JSON.stringify({ targets: [{ ...target, group: 'peer', reply: 'x' }] })],
])('takes no target from %s', async (_what, status, body) => {
  expect(await ask(await answering(status, body))).toHaveProperty('problem');
});

it('the listener answers TCP and UDP, and the control judges by that answer', async () => {
  const port = await freePort();
  const listener = listen(port);
  closing.push(() => listener.close());
  const one = { ...target, address: '127.0.0.1', port } as const;
  const tcp = await probe({ ...one, protocol: 'tcp', group: 'egress' });
  expect(tcp.reply).toMatch(/^crucible-drill-listener GET \//);
  expect((await probe({ ...one, protocol: 'udp', group: 'egress' })).reply).toBeDefined();
  listener.close();
  closing.length = 0;
  expect((await probe({ ...one, protocol: 'tcp', group: 'egress' })).reply).toBeUndefined();
});

it('asks name servers a question they understand', () => {
  const query = dnsQuery();
  expect(query.readUInt16BE(4)).toBe(1);
  expect(query.toString('latin1')).toContain('kubernetes');
});

describe('a sandbox that listens', () => {
  async function serving(serve: (socket: Socket) => void): Promise<number> {
    const server = createTcpServer(serve).listen(0, '127.0.0.1');
    closing.push(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    return (server.address() as AddressInfo).port;
  }

  it('is told apart from another server and from nothing', async () => {
    const greeting = await serving((socket) => socket.once('data', () => socket.end(`${PEER_GREETING}\n`)));
    expect(await tryPeer('127.0.0.1', greeting)).toBe('answered');
    const other = await serving((socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n\r\n')));
    expect(await tryPeer('127.0.0.1', other)).toBe('connected');
    expect(await tryPeer('127.0.0.1', await freePort())).toBe('silent');
  });

  it.each([
    ['answered', false],
    ['connected', null],
    ['silent', true],
  ])('that is found %s is blocked: %s', async (peer, blocked) => {
    const url = await answering(200, JSON.stringify({ peer }));
    expect((await peerThrough(url)('10.0.0.1', new AbortController().signal)).blocked).toBe(blocked);
  });

  it.each([
    ['an error', 500, '{}'],
    ['another word', 200, '{"peer":"maybe"}'],
  ])('shows nothing after %s', async (_what, status, body) => {
    const url = await answering(status, body);
    const { blocked, detail } = await peerThrough(url)('10.0.0.1', new AbortController().signal);
    expect([blocked, detail]).toEqual([null, expect.stringContaining('cannot be asked')]);
  });
});
