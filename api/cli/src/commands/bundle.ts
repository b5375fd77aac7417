import { readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { PublicKeyError, contentOf, verifyBundle, type VerifiedBundle } from '@crucible/storage/verify-bundle';
import { connect, printJson, type Command, type OutputOption, type Tools } from '../command.ts';
import { CliError, usageError } from '../errors.ts';
import { EXIT } from '../exit-codes.ts';
import { exists, folderFor, persistently, writeWhole } from '../files.ts';
import { findId } from '../find.ts';

export interface BundleOptions extends OutputOption {
  readonly file?: string;
  readonly publicKey?: string;
  /** commander’s word for --no-verify. */
  readonly verify?: boolean;
  readonly overwrite?: boolean;
}

/** Downloads the evidence of a finished run, and keeps it only when it is as it was signed and of this run. */
export const bundle: Command<BundleOptions> = async (
  tools,
  [reference = ''],
  { file, publicKey, verify = true, overwrite = false, output },
) => {
  const key = verify ? readKey(publicKey, '; --no-verify downloads without a check') : undefined;
  const { client, namespace } = await connect(tools);
  const id = await findId(client, reference, namespace, tools.signal);
  const path = resolve(file ?? `${id}.tar`);
  if (!overwrite && (await exists(path)))
    throw new CliError(`${path} exists: --overwrite replaces it, --file names another`);
  const folder = await folderFor(dirname(path), [basename(path)]);
  const verified = await persistently(async () => {
    const { body } = await client.bundle(id, { signal: tools.signal });
    let found: VerifiedBundle | undefined;
    await writeWhole(join(folder, basename(path)), body, async (_written, temporary) => {
      if (key !== undefined) found = await verifiedAs(id, temporary, key);
    });
    return found;
  });
  if (verified !== undefined) report(tools, path, verified, output);
  else
    tools.stderr.line(
      `${path} is written and NOT verified: \`kubectl crucible verify ${basename(path)} --public-key FILE\` does it`,
    );
  return EXIT.succeeded;
};

async function verifiedAs(id: string, file: string, key: string): Promise<VerifiedBundle> {
  const found = await verified(file, key);
  const { uid } = found.manifest.evaluation;
  // Signed, and yet not what was asked for.
  if (uid !== id) throw new CliError(`it is the evidence of another run: ${uid}`);
  return found;
}

/** Offline: needs the archive and the installation’s public key, and no server. */
export const verifyFile: Command<BundleOptions> = async (tools, [file = ''], { publicKey, output }) => {
  const found = await verified(file, readKey(publicKey));
  report(tools, file, found, output);
  return EXIT.succeeded;
};

/** What cannot be checked is no forgery. */
async function verified(file: string, key: string): Promise<VerifiedBundle> {
  try {
    return await verifyBundle(contentOf(file), key);
  } catch (error) {
    if (error instanceof PublicKeyError) throw usageError(error.message);
    if (error instanceof Error && 'syscall' in error) throw usageError(`the bundle cannot be read: ${error.message}`);
    throw error;
  }
}

function readKey(given: string | undefined, otherwise = ''): string {
  const file = given ?? process.env['CRUCIBLE_PUBLIC_KEY_FILE'];
  if (file === undefined)
    throw usageError(
      `the installation’s public key is needed: --public-key FILE or CRUCIBLE_PUBLIC_KEY_FILE (docs/evidence-bundle.md says where it is)${otherwise}`,
    );
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usageError(`the public key cannot be read: ${(error as Error).message}`);
  }
}

function report(
  { stdout }: Tools,
  path: string,
  { manifest, bytes: size }: VerifiedBundle,
  output: string | undefined,
): void {
  const { evaluation, entries, missing, keyId } = manifest;
  if (output === 'json')
    return printJson(stdout, {
      file: path,
      verified: true,
      evaluation,
      entries: entries.length,
      bytes: size,
      missing,
      keyId,
    });
  stdout.line(`${path}: verified, evaluation ${evaluation.namespace}/${evaluation.name}, uid ${evaluation.uid}`);
  stdout.line(`  ${entries.length} entries, ${size} bytes, all as signed by the key ${keyId}`);
  for (const { name, reason } of missing) stdout.line(`  not in it: ${name} (${reason})`);
}
