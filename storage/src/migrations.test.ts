import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { migrationsDirectory, readMigrations, verify } from './migrations.ts';
import { scramVerifier } from './roles.ts';
import { SCHEMA_VERSION } from './schema.ts';

test('SCHEMA_VERSION is the newest migration', async () => {
  expect(await readMigrations(migrationsDirectory())).toHaveLength(SCHEMA_VERSION);
});

test('a directory with a hole, a duplicate or a stray file is refused', async () => {
  for (const second of ['0003_c.sql', '0001_b.sql', 'notes.txt']) {
    const directory = await mkdtemp(join(tmpdir(), 'crucible-migrations-'));
    for (const name of ['0001_a.sql', second]) await writeFile(join(directory, name), '');
    await expect(readMigrations(directory)).rejects.toThrow(/out of order: expected 0002/);
    await rm(directory, { recursive: true });
  }
});

test('what was applied must be a prefix of what is known', () => {
  const known = ['a', 'b', 'c'].map((checksum, index) => ({ version: index + 1, name: `000${index + 1}_${checksum}.sql`, checksum, sql: '' }));
  expect(verify(known, known.slice(0, 1))).toEqual(known.slice(1));
  expect(verify(known, known)).toEqual([]);
  expect(() => verify(known, [{ version: 1, name: '0001_a.sql', checksum: 'x' }])).toThrow(/0001_a\.sql was changed/);
  expect(() => verify(known.slice(0, 2), known)).toThrow(/newer than this image: it has 0003_c\.sql/);
});

// The example of RFC 7677: the client's proof there follows from this key.
test('the SCRAM verifier is the one of the RFC', () => {
  const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
  expect(scramVerifier('pencil', salt)).toBe(
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  );
});
