import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NAMESPACE, RUN_SECONDS, apply, evaluation, ok, sql, uniqueName, waitFor } from './cluster.ts';

// More than fits into a resource, and no text: it must arrive byte by byte, under the real policies.

const content = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) % 256));
const sha256 = createHash('sha256').update(content).digest('hex');
const name = uniqueName('inputs');
const metadata = { name, namespace: NAMESPACE };

beforeAll(() =>
  // Client-side apply would store a second copy in an annotation, which is too small for it.
  ok(
    ['create', '-f', '-'],
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { ...metadata, labels: { 'crucible.dev/input': 'true' } },
      binaryData: { 'big.bin': content.toString('base64') },
    }),
  ),
);
afterAll(() => ok(['delete', 'configmap', name, '-n', NAMESPACE]));

it('a file from a ConfigMap is read as it is, and cannot be written', async () => {
  const code = `
import hashlib
path = '/crucible/code/data/big.bin'
print(hashlib.sha256(open(path, 'rb').read()).hexdigest())
try: open(path, 'wb')
except OSError as error: print(error.strerror)
`;
  const files = [{ path: 'data/big.bin', configMapRef: { name, key: 'big.bin' } }];
  await apply(evaluation(name, { runtime: 'python', code, files }));
  const { status, metadata: of } = await waitFor(name, 'Finished', RUN_SECONDS);
  expect(status?.output?.tail).toBe(`${sha256}\nRead-only file system\n`);
  expect(await sql(`select i->>'sha256', i->>'bytes' from crucible.attempts, jsonb_array_elements(inputs) i where evaluation_uid = '${of!.uid}'`)).toEqual([
    [sha256, String(content.length)],
  ]);
});
