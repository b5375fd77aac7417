import { errorFromStatus, KubeError } from './errors.ts';
import { LineSplitter, LineTooLongError } from './lines.ts';
import type { KubeObject } from './resources.ts';
import type { WatchEvent } from './types.ts';

/**
 * Events of a watch's bytes. Throws KubeError: of the server's own code for an in-band ERROR event, `InvalidResponse`
 * for a line that is no event or that was cut off.
 */
export async function* watchEvents<T extends KubeObject>(
  bytes: AsyncIterable<Uint8Array>,
  maxLineBytes: number,
  onActivity: (() => void) | undefined,
): AsyncGenerator<WatchEvent<T>> {
  const splitter = new LineSplitter(maxLineBytes);
  for await (const chunk of bytes) {
    onActivity?.();
    try {
      for (const line of splitter.push(chunk)) {
        if (line.length > 0) yield parseEvent<T>(line);
      }
    } catch (error) {
      throw error instanceof LineTooLongError ? malformed(error.message) : error;
    }
  }
  if (splitter.pendingBytes > 0) throw malformed('the watch ended within a line');
}

function parseEvent<T extends KubeObject>(line: Buffer): WatchEvent<T> {
  let event: {
    type?: unknown;
    object?: { metadata?: { name?: unknown; resourceVersion?: unknown }; code?: unknown };
  } | null;
  try {
    event = JSON.parse(line.toString('utf8')) as typeof event;
  } catch {
    throw malformed(`a line of ${line.length} bytes is not JSON`);
  }
  const object = event?.object;
  if (event?.type === 'ERROR') {
    throw errorFromStatus(typeof object?.code === 'number' ? object.code : 500, JSON.stringify(object ?? {}), 'watch');
  }
  if (typeof object?.metadata?.resourceVersion !== 'string') throw malformed('an event has no resourceVersion');
  switch (event?.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      if (typeof object.metadata.name !== 'string') throw malformed('an event has no name');
      return event as WatchEvent<T>;
    case 'BOOKMARK':
      return event as WatchEvent<T>;
    default:
      throw malformed('an event has an unknown type');
  }
}

function malformed(message: string): KubeError {
  return new KubeError({ code: 0, reason: 'InvalidResponse', message: `watch: ${message}` });
}
