import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';
import { DEFAULT_STORAGE } from './storage-config.ts';

const GOOD = { CRUCIBLE_DATABASE_URL: 'postgresql://db/crucible', CRUCIBLE_NAMESPACES: '', CRUCIBLE_DATA_DIR: '/data' };

describe('the configuration of storage', () => {
  it('keeps everything and limits nothing beyond the design, unless told', () => {
    expect(DEFAULT_STORAGE).toMatchObject({
      location: undefined,
      maxRunBytes: 8 * 1024 * 1024,
      maxRunFiles: 1000,
      maxNamespaceBytes: undefined,
      orphanGraceHours: 24,
      retentionDays: { output: 0, artifacts: 0, records: 0 },
    });
    expect(readConfig(GOOD).storage.location).toBeUndefined();
  });

  it('reads keys from files when they are asked for, and holds none', () => {
    const folder = mkdtempSync(join(tmpdir(), 'crucible-keys-'));
    const [access, secret] = [join(folder, 'access'), join(folder, 'secret')];
    writeFileSync(access, 'the-access-key\n');
    writeFileSync(secret, 'the-secret-key\n');
    const { storage } = readConfig({
      ...GOOD,
      CRUCIBLE_FILE_STORE_URL: 's3://bucket/prefix?region=r&endpoint=https://s3.example',
      CRUCIBLE_FILE_STORE_ACCESS_KEY_FILE: access,
      CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: secret,
    });
    expect(storage.location).toMatchObject({ type: 's3', bucket: 'bucket', endpoint: 'https://s3.example' });
    expect(storage.credentials()).toEqual({ accessKeyId: 'the-access-key', secretAccessKey: 'the-secret-key' });
    expect(inspect(storage, { depth: 9, showHidden: true })).not.toContain('the-secret-key');
    rmSync(folder, { recursive: true });
  });

  it('names every mistake and repeats no value', () => {
    const wrong = {
      CRUCIBLE_FILE_STORE_URL: 's3://key:p4ssw0rd@bucket',
      CRUCIBLE_FILE_STORE_SECRET_KEY_FILE: 'p4ssw0rd',
      CRUCIBLE_ARTIFACT_MAX_RUN_BYTES: '8388609',
      CRUCIBLE_ARTIFACT_MAX_RUN_FILES: '-1',
      CRUCIBLE_ARTIFACT_MAX_NAMESPACE_BYTES: '1.5',
      CRUCIBLE_ORPHAN_GRACE_HOURS: '1',
      CRUCIBLE_RETENTION_RECORDS_DAYS: 'never',
    };
    let message = '';
    try {
      readConfig({ ...GOOD, ...wrong });
    } catch (error) {
      message = String(error);
    }
    for (const name of Object.keys(wrong)) expect(message).toContain(name);
    expect(message).not.toContain('p4ssw0rd');
  });
});
