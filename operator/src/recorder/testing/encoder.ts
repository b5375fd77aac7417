// Test side of the protocol: frames as the launcher writes them, from what a program produced.
import { createHash } from 'node:crypto';
import { random } from '../../../../test/faults/seed.ts';

export { random };

export interface Produced {
  readonly stream: 'stdout' | 'stderr';
  readonly data: Buffer;
}

export interface EncodedFile {
  readonly path: string;
  readonly data: Buffer;
}

const MAX_TEXT = 8 * 1024;

export interface EncodeOptions {
  readonly files?: readonly EncodedFile[];
  readonly receipt?: boolean;
  readonly summary?: boolean;
  readonly truncated?: boolean;
}

/** The lines of one attempt's log, each with its line feed. */
export function encodeLines(writes: readonly Produced[], options: EncodeOptions = {}): Buffer[] {
  const lines: Buffer[] = [];
  const emit = (mark: string, text: Uint8Array) => {
    const guarded = text.at(-1) === 0x0d;
    const head = `${lines.length + 1} ${guarded ? mark.replace('|', '!').replace('+', '?') : mark}`;
    lines.push(Buffer.concat([Buffer.from(head), text, Buffer.from(guarded ? '.\n' : '\n')]));
  };
  const emitJson = (letter: string, value: object) => emit(`${letter}|`, Buffer.from(JSON.stringify(value)));

  if (options.receipt ?? true) emitJson('r', { uid: 10000, noNewPrivs: true });
  for (const { stream, data } of writes) {
    const letter = stream === 'stdout' ? 'o' : 'e';
    for (let at = 0; at < data.length;) {
      const feed = data.indexOf(0x0a, at);
      const end = feed === -1 ? data.length : feed;
      if (end - at > MAX_TEXT) {
        emit(`${letter}+`, data.subarray(at, at + MAX_TEXT));
        at += MAX_TEXT;
      } else {
        emit(`${letter}${feed === -1 ? '+' : '|'}`, data.subarray(at, end));
        at = feed === -1 ? end : end + 1;
      }
    }
  }
  const files = options.files ?? [];
  files.forEach(({ path, data }, index) => {
    for (let at = 0; at < data.length; at += 6144) {
      emitJson('a', { path, index, chunk: data.subarray(at, at + 6144).toString('base64') });
    }
    const sha256 = createHash('sha256').update(data).digest('hex');
    emitJson('a', { path, index, size: data.length, sha256, mode: '0644', done: true });
  });
  if (files.length > 0) {
    const bytes = files.reduce((sum, file) => sum + file.data.length, 0);
    emitJson('a', { end: true, count: files.length, bytes, complete: true, refused: 0 });
  }
  if (options.summary ?? true) {
    const truncated = options.truncated ?? false;
    emitJson('s', {
      version: 1,
      exitCode: 0,
      signal: null,
      timedOut: false,
      stdout: { truncated },
      stderr: { truncated },
      artifacts: { count: files.length },
    });
  }
  return lines;
}

export function encode(writes: readonly Produced[], options: EncodeOptions = {}): Buffer {
  return Buffer.concat(encodeLines(writes, options));
}

export function streamOf(writes: readonly Produced[], stream: Produced['stream']): Buffer {
  return Buffer.concat(writes.filter((write) => write.stream === stream).map((write) => write.data));
}

/** Random interleaved writes: every byte value, long lines, empty lines, missing last newlines. */
export function randomWrites(seed: number, approximateBytes: number): Produced[] {
  const next = random(seed);
  const writes: Produced[] = [];
  for (let total = 0; total < approximateBytes;) {
    const length = next() < 0.02 ? Math.floor(next() * 40_000) : Math.floor(next() * 400);
    const data = Buffer.alloc(length + 1);
    for (let at = 0; at < length; at += 1) data[at] = Math.floor(next() * 256);
    data[length] = next() < 0.9 ? 0x0a : 0x21;
    writes.push({ stream: next() < 0.7 ? 'stdout' : 'stderr', data });
    total += data.length;
  }
  return writes;
}
