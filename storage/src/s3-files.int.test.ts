import { randomUUID } from 'node:crypto';
import { createServer, request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { CreateBucketCommand, HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testServer } from '../../test/integration/environment.ts';
import { parseTestS3 } from '../../test/integration/s3.ts';
import { UnavailableError } from './errors.ts';
import { fileStoreSuite, listed, sha256, SUITE_MAX_FILE_BYTES } from './file-store-suite.ts';
import { S3FileStore } from './s3-files.ts';
import type { S3FileStoreOptions } from './s3-files.ts';

const server = parseTestS3(testServer('CRUCIBLE_TEST_S3'));
const { endpoint, region, accessKeyId, secretAccessKey } = server;
const credentials = { accessKeyId, secretAccessKey };
const Bucket = `crucible-${randomUUID()}`;
const admin = new S3Client({ endpoint, region, credentials, forcePathStyle: true });

beforeAll(() => admin.send(new CreateBucketCommand({ Bucket })));
afterAll(() => admin.destroy());

const open = (options: Partial<S3FileStoreOptions> = {}) =>
  new S3FileStore({ bucket: Bucket, prefix: randomUUID(), region, endpoint, credentials, ...options });
const keyOf = (prefix: string, sha: string) => `${prefix}/${sha.slice(0, 2)}/${sha.slice(2)}`;

async function keys(prefix: string): Promise<string[]> {
  const { Contents } = await admin.send(new ListObjectsV2Command({ Bucket, Prefix: prefix }));
  return (Contents ?? []).map(({ Key }) => Key ?? '');
}

describe('S3', () => {
  fileStoreSuite(async () => {
    const prefix = `suite/${randomUUID()}`;
    const store = open({ prefix, maxFileBytes: SUITE_MAX_FILE_BYTES });
    const away = open({ bucket: 'not-there', prefix });
    return {
      store,
      away,
      overwrite: async (name, data) => {
        await admin.send(new PutObjectCommand({ Bucket, Key: keyOf(prefix, name), Body: data }));
      },
      everything: () => keys(prefix),
      close: async () => {
        store.close();
        away.close();
      },
    };
  });
});

describe('only S3', () => {
  test('the server keeps the checksum that we sent, and listing stays below the prefix', async () => {
    const prefix = randomUUID();
    const data = Buffer.from('checked');
    const [store, neighbour] = [open({ prefix }), open({ prefix: `${prefix}x` })];
    const { sha256: name } = await store.put(data);
    const head = await admin.send(new HeadObjectCommand({ Bucket, Key: keyOf(prefix, name), ChecksumMode: 'ENABLED' }));
    expect(head.ChecksumSHA256).toBe(Buffer.from(name, 'hex').toString('base64'));
    await neighbour.put(Buffer.from('not ours'));
    await admin.send(new PutObjectCommand({ Bucket, Key: `${prefix}/readme.txt`, Body: 'nor this' }));
    expect(await listed(store)).toEqual([name]);
  });

  test('more objects than one page holds', async () => {
    const store = open();
    const stored: string[] = [];
    // As many at once as there are connections: who waits for one longer than a request may take gives up.
    for (let from = 0; from < 1_050; from += 50) {
      const some = Array.from({ length: 50 }, (_, at) => store.put(Buffer.from(`page ${from + at}`)));
      stored.push(...(await Promise.all(some)).map(({ sha256 }) => sha256));
    }
    expect(await listed(store)).toEqual(stored.sort());
  }, 60_000);

  test('wrong keys are unavailable, and no message carries them', async () => {
    const secret = 'wrong-secret-key-that-nobody-may-see';
    const store = open({ credentials: { accessKeyId, secretAccessKey: secret } });
    const error = await store.put(Buffer.from('x')).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(secret);
    expect(inspect(store, { depth: 10 })).not.toContain(secret);
    expect(String(error)).toMatch(/HTTP 403/);
  });
});

type Answer = (request: IncomingMessage) => number | 'silence' | undefined;

/** A server between us and the real one: `answer` may refuse a request or leave it without an answer. */
async function through(answer: Answer) {
  const seen: string[] = [];
  const proxy = createServer((incoming, response) => {
    seen.push(`${incoming.method}${incoming.headers['if-none-match'] === undefined ? '' : ' if none'}`);
    const status = answer(incoming);
    if (status === 'silence') return;
    if (status !== undefined) {
      incoming.resume().on('end', () => response.writeHead(status).end());
      return;
    }
    // The signature covers the Host header: it has to arrive as it was sent.
    const { method, url: path, headers } = incoming;
    const outgoing = request(endpoint, { method, path, headers }, (answered) => {
      response.writeHead(answered.statusCode ?? 500, answered.headers);
      answered.pipe(response);
    });
    incoming.pipe(outgoing.on('error', () => response.destroy()));
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const close = async () => {
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  };
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, seen, close };
}

describe('between us and S3', () => {
  test('the first put is conditional, and a second one of the same content writes nothing', async () => {
    const proxy = await through(() => undefined);
    const store = open({ endpoint: proxy.url });
    await store.put(Buffer.from('once'));
    expect(proxy.seen).toEqual(['PUT if none']);
    await store.put(Buffer.from('once'));
    expect(proxy.seen).toEqual(['PUT if none', 'PUT if none', 'HEAD']);
    await proxy.close();
  });

  test('a server without conditions is asked once and then written to without', async () => {
    const proxy = await through(({ headers }) => (headers['if-none-match'] === undefined ? undefined : 501));
    const store = open({ endpoint: proxy.url });
    for (const text of ['a', 'b']) {
      const { sha256: name } = await store.put(Buffer.from(text));
      expect((await store.read(name)).toString()).toBe(text);
    }
    expect(proxy.seen.slice(-4)).toEqual(['PUT', 'GET', 'PUT', 'GET']);
    await proxy.close();
  });

  test('an error in the middle of everything is tried again; one that stays is unavailable', async () => {
    let failures = 2;
    const proxy = await through(() => (failures-- > 0 ? 503 : undefined));
    const store = open({ endpoint: proxy.url });
    const { sha256: name } = await store.put(Buffer.from('again'));
    expect((await store.read(name)).toString()).toBe('again');
    failures = Infinity;
    await expect(store.read(name)).rejects.toThrow(UnavailableError);
    await expect(store.has(name)).rejects.toThrow(UnavailableError);
    await proxy.close();
  });

  test('a server that does not answer is unavailable after the time limit', async () => {
    const proxy = await through(() => 'silence');
    const store = open({ endpoint: proxy.url, requestTimeoutMs: 300 });
    await expect(store.put(Buffer.from('x'))).rejects.toThrow(UnavailableError);
    await expect(store.read('a'.repeat(64))).rejects.toThrow(UnavailableError);
    await proxy.close();
    await expect(store.put(Buffer.from('x'))).rejects.toThrow(UnavailableError);
  });

  test('who waits no longer gets an answer at once, and no further try is made', async () => {
    const proxy = await through(() => 'silence');
    const store = open({ endpoint: proxy.url, requestTimeoutMs: 1_000 });
    const signal = AbortSignal.timeout(300);
    for (const call of ['has', 'stat', 'delete'] as const) await expect(store[call]('a'.repeat(64), { signal })).rejects.toThrow(UnavailableError);
    expect(proxy.seen).toEqual(['HEAD']);
    await proxy.close();
  });

  test('content that changes on the way is not accepted by the server', async () => {
    const store = open();
    const { sha256: name } = await store.put(Buffer.from('right'));
    const Key = 'wrong';
    const ChecksumSHA256 = Buffer.from(name, 'hex').toString('base64');
    await expect(admin.send(new PutObjectCommand({ Bucket, Key, Body: 'wrong', ChecksumSHA256 }))).rejects.toThrow();
    expect(name).toBe(sha256(Buffer.from('right')));
  });
});
