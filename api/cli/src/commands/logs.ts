import type { OutputStream, StartupAwareClient } from '@crucible/client';
import { connect, type Command, type Tools } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';
import { watch } from '../watch.ts';
import { Progress } from './run.ts';

export interface LogOptions {
  readonly follow?: boolean;
  readonly stream?: 'stdout' | 'stderr' | 'both';
  readonly attempt?: number;
}

/** stdout of the run to stdout, its stderr to stderr. */
export const logs: Command<LogOptions> = async (tools, [reference = ''], { follow, stream = 'both', attempt }) => {
  const { client, namespace } = await connect(tools);
  const id = await findId(client, reference, namespace, tools.signal);
  const streams: OutputStream[] = stream === 'both' ? ['stdout', 'stderr'] : [stream];
  const progress = new Progress(tools, () => undefined);
  if (follow) await watch(client, id, progress, { streams, signal: tools.signal, attempt });
  else for (const each of streams) await show(tools, client, id, each, attempt, progress);
  return EXIT.succeeded;
};

async function show(
  { signal }: Tools,
  client: StartupAwareClient,
  id: string,
  stream: OutputStream,
  attempt: number | undefined,
  progress: Progress,
): Promise<void> {
  const { body } = await client.output(id, stream, { signal, attempt });
  for await (const data of body) await progress.output(stream, attempt ?? 0, data);
  progress.outputEnd(stream, attempt ?? 0);
}
