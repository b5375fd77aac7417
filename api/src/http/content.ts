import { IntegrityError, NotFoundError, type FileStore } from '@crucible/storage';
import { Problem } from '../problems.ts';
import type { ByteRange } from './ranges.ts';

/** At most 8 MiB by the rules of a run, so whole: it is verified before the first byte of it is sent. */
export async function readContent(files: FileStore, sha256: string): Promise<(range: ByteRange) => AsyncIterable<Uint8Array>> {
  try {
    const content = await files.read(sha256);
    return async function* part({ first, last }) {
      yield content.subarray(first, last + 1);
    };
  } catch (error) {
    if (error instanceof NotFoundError) throw new Problem(404, 'its content is not in the file store any more', { cause: error });
    if (error instanceof IntegrityError) throw new Problem(500, 'its content in the file store is damaged: the hash is another', { cause: error });
    throw error;
  }
}
