import { createHash } from 'node:crypto';
import { encodeLines, randomWrites, streamOf } from '../../operator/src/recorder/testing/encoder.ts';
import type { EncodedFile, Produced } from '../../operator/src/recorder/testing/encoder.ts';
import type { Script } from './node.ts';
import { random } from './seed.ts';

// The reference run: some Evaluations that between them make every call the operator knows in a run that goes well.

export interface Part {
  readonly name: string;
  readonly spec: Record<string, unknown>;
  /** What its pods do, attempt by attempt; the last one again for further attempts. */
  readonly scripts: readonly Script[];
  /** What must be stored of every attempt if the capture is complete. */
  readonly produced: readonly Produced[];
  readonly files: readonly EncodedFile[];
  /** In the other evaluation namespace of the installation. */
  readonly inNeighbour?: boolean;
  /** What its owner does once its pod has run for a moment. */
  readonly then?: 'cancel' | 'delete';
}

export interface ScenarioOptions {
  readonly seed: number;
  /** Approximate bytes of output of the first part. */
  readonly bytes?: number;
  readonly durationMs?: number;
  /** With a retried run, which takes 5 s more; or that one alone. */
  readonly retry?: boolean | 'alone';
}

export function scenario({ seed, bytes = 30_000, durationMs = 800, retry = false }: ScenarioOptions): Part[] {
  const next = random(seed);
  const content = (length: number): Buffer => Buffer.from(Array.from({ length }, () => Math.floor(next() * 256)));
  const part = (
    name: string,
    produced: readonly Produced[],
    exitCodes: readonly number[],
    more: Partial<Part> & { untilEnded?: boolean } = {},
  ): Part => {
    const { untilEnded, files = [], ...rest } = more;
    const lines = encodeLines(produced, { files });
    const scripts = exitCodes.map((exitCode) => ({ lines, exitCode, durationMs, ...(untilEnded && { untilEnded }) }));
    return { name, spec: {}, produced, files, scripts, ...rest };
  };
  const short = (text: string): Produced[] => [{ stream: 'stdout', data: Buffer.from(`${text}\n`) }];
  const parts = [
    part('succeeds', randomWrites(seed, bytes), [0], {
      files: [{ path: 'out/result.bin', data: content(9000) }],
      spec: { artifacts: { paths: ['out/**'] } },
    }),
    part('fails', randomWrites(seed + 1, 500), [3]),
    part('cancelled', short('waiting'), [0], { untilEnded: true, then: 'cancel' }),
    part('deleted', short('waiting too'), [0], { untilEnded: true, then: 'delete' }),
  ];
  const retried = part('retried', short('once more'), [7, 0], { spec: { retry: { limit: 1, on: ['Any'] } } });
  if (retry === 'alone') return [retried];
  return retry ? [...parts, retried] : parts;
}

/** One more that succeeds, with so much output in so long. */
export function flowing(name: string, seed: number, bytes: number, durationMs: number): Part {
  const produced = randomWrites(seed, bytes);
  return { name, spec: {}, produced, files: [], scripts: [{ lines: encodeLines(produced), exitCode: 0, durationMs }] };
}

/** One that runs until it is ended, in the neighbouring namespace. */
export function neighbouring(name: string, seed: number): Part {
  const produced = randomWrites(seed, 5000);
  const script = { lines: encodeLines(produced), exitCode: 0, durationMs: 800, untilEnded: true };
  return { name, spec: {}, produced, files: [], scripts: [script], inNeighbour: true };
}

export function scriptOf(parts: readonly Part[], evaluation: string, attempt: number): Script | undefined {
  const part = parts.find(({ name }) => name === evaluation);
  return part?.scripts[Math.min(attempt, part.scripts.length) - 1];
}

/** By stream, what a complete capture holds. */
export function expectedOutput(part: Part): Record<'stdout' | 'stderr', { bytes: number; sha256: string }> {
  const of = (stream: 'stdout' | 'stderr'): { bytes: number; sha256: string } => {
    const data = streamOf(part.produced, stream);
    return { bytes: data.length, sha256: sha256(data) };
  };
  return { stdout: of('stdout'), stderr: of('stderr') };
}

export function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
