import { expect, test } from 'vitest';
import { DirectoryFileStore } from './directory-files.ts';
import { openFileStore, parseFileStoreUrl } from './file-store-url.ts';
import { S3FileStore } from './s3-files.ts';

test('a directory', async () => {
  expect(parseFileStoreUrl('file:///data/files')).toEqual({ type: 'directory', directory: '/data/files' });
  expect(await openFileStore(parseFileStoreUrl('file:///data/files'))).toBeInstanceOf(DirectoryFileStore);
});

test('a bucket, with or without prefix and endpoint', async () => {
  expect(parseFileStoreUrl('s3://my-bucket?region=eu-central-1')).toEqual({
    type: 's3', bucket: 'my-bucket', prefix: '', region: 'eu-central-1', endpoint: undefined,
  });
  const location = parseFileStoreUrl('s3://b.u-cket/a/b_1/?region=x&endpoint=http%3A%2F%2Fminio.storage%3A9000');
  expect(location).toEqual({ type: 's3', bucket: 'b.u-cket', prefix: 'a/b_1', region: 'x', endpoint: 'http://minio.storage:9000' });
  await expect(openFileStore(location)).rejects.toThrow(/access key/);
  expect(await openFileStore(location, { credentials: { accessKeyId: 'a', secretAccessKey: 'b' } })).toBeInstanceOf(S3FileStore);
});

test.each([
  'somewhere', '', 'http://bucket', 'file://host/data', 'file:///', 'file:///data?x=1', 's3://Bucket?region=x', 's3://b?region=x',
  's3://bucket', 's3://bucket?region=X_Y', 's3://bucket/a//b?region=x', 's3://bucket/a%20b?region=x',
  's3://bucket?region=x&endpoint=minio', 's3://bucket?region=x&endpoint=http://u:p4ss@minio', 's3://bucket?region=x&secret=p4ss',
  's3://key:p4ss@bucket?region=x',
])('refuses %j without repeating it', (value) => {
  const message = (() => {
    try {
      return JSON.stringify(parseFileStoreUrl(value));
    } catch (error) {
      return String(error);
    }
  })();
  expect(message).toMatch(/^Error: /);
  expect(message).not.toContain('p4ss');
});
