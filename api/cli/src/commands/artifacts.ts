import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import type { Artifact, StartupAwareClient } from '@crucible/client';
import { localPaths } from '../artifact-paths.ts';
import { connect, printJson, type Command, type OutputOption, type Tools } from '../command.ts';
import { CliError, usageError } from '../errors.ts';
import { EXIT } from '../exit-codes.ts';
import { exists, folderFor, persistently, writeWhole } from '../files.ts';
import { findId } from '../find.ts';
import { bytes, table, visibleLine } from '../text.ts';

export interface ListOptions extends OutputOption {
  readonly attempt?: number;
}

export interface DownloadOptions extends OutputOption {
  readonly attempt?: number;
  readonly directory?: string;
  readonly overwrite?: boolean;
}

async function artifactsOf(
  tools: Tools,
  reference: string,
  attempt: number | undefined,
): Promise<{ client: StartupAwareClient; id: string; items: Artifact[] }> {
  const { client, namespace } = await connect(tools);
  const id = await findId(client, reference, namespace, tools.signal);
  return { client, id, items: await client.artifacts(id, { signal: tools.signal, attempt }) };
}

export const listArtifacts: Command<ListOptions> = async (tools, [reference = ''], { output, attempt }) => {
  const { items } = await artifactsOf(tools, reference, attempt);
  if (output === 'json') printJson(tools.stdout, { items });
  else if (items.length === 0) tools.stderr.line('no artifacts');
  else
    tools.stdout.line(
      table([['SIZE', 'STATE', 'PATH'], ...items.map((item) => [bytes(item.size), stateOf(item), item.path])]),
    );
  return EXIT.succeeded;
};

function stateOf({ refused, complete, sha256, deletedAt }: Artifact): string {
  if (refused !== null) return `refused: ${refused}`;
  if (deletedAt !== null) return 'deleted by retention';
  return complete && sha256 !== null ? 'kept' : 'incomplete';
}

/** All that were kept, or those whose paths are given. Ends with 1 when one of them could not be had. */
export const downloadArtifacts: Command<DownloadOptions> = async (
  tools,
  [reference = '', ...wanted],
  { directory, attempt, overwrite = false, output },
) => {
  const { client, id, items } = await artifactsOf(tools, reference, attempt);
  const unknown = wanted.find((path) => !items.some((item) => item.path === path));
  if (unknown !== undefined)
    throw usageError(`there is no artifact ${JSON.stringify(unknown)}: \`kubectl crucible artifacts list\` shows them`);
  const root = resolve(directory ?? '.');
  const done: { path: string; file: string; size: number; sha256: string }[] = [];
  let failed = 0;
  // Names are chosen over all of them, so that a file has the same name however few are asked for.
  for (const { artifact, segments } of localPaths(items)) {
    if (wanted.length > 0 && !wanted.includes(artifact.path)) continue;
    // It has no content, and was never to have any.
    if (wanted.length === 0 && artifact.refused !== null) {
      tools.stderr.line(`${visibleLine(artifact.path)}: ${visibleLine(stateOf(artifact))}`);
      continue;
    }
    try {
      const file = await download(client, id, { artifact, root, segments, overwrite }, tools.signal);
      done.push({ path: artifact.path, file, size: artifact.size, sha256: artifact.sha256 ?? '' });
      if (output !== 'json')
        tools.stdout.line(
          `${visibleLine(file)}${segments.join('/') === artifact.path ? '' : `   from ${visibleLine(artifact.path)}`}`,
        );
    } catch (error) {
      if (tools.signal.aborted) throw error;
      failed += 1;
      tools.stderr.line(`${visibleLine(artifact.path)}: ${visibleLine((error as Error).message)}`);
    }
  }
  if (output === 'json') printJson(tools.stdout, { items: done });
  else if (items.length === 0) tools.stderr.line('no artifacts');
  return failed > 0 ? EXIT.failed : EXIT.succeeded;
};

interface Target {
  readonly artifact: Artifact;
  readonly root: string;
  readonly segments: readonly string[];
  readonly overwrite: boolean;
}

async function download(
  client: StartupAwareClient,
  id: string,
  { artifact, root, segments, overwrite }: Target,
  signal: AbortSignal,
): Promise<string> {
  if (stateOf(artifact) !== 'kept') throw new CliError(`not there: ${stateOf(artifact)}`);
  const file = join(await folderFor(root, segments), segments.at(-1) ?? '');
  if (!overwrite && (await exists(file))) throw new CliError(`${file} exists: --overwrite replaces it`);
  await persistently(async () => {
    const { body } = await client.artifact(id, { path: artifact.path, attempt: artifact.attempt }, { signal });
    const hash = createHash('sha256');
    await writeWhole(file, hashed(body, hash), (written) => {
      if (written === artifact.size && hash.digest('hex') === artifact.sha256) return;
      throw new CliError('what came is not what the record says (sha256): nothing was written; try again');
    });
  });
  return file;
}

async function* hashed(
  body: AsyncIterable<Uint8Array>,
  hash: { update(data: Uint8Array): unknown },
): AsyncGenerator<Uint8Array> {
  for await (const data of body) {
    hash.update(data);
    yield data;
  }
}
