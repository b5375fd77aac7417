import type {
  CapturePosition,
  FinishCapture,
  SeqRange,
  StreamGap,
  StreamLedgerInput,
  StreamName,
} from '@crucible/storage';
import { truncatedStreams, type AdvisoryObject } from './advisory.ts';

/** A stored chunk without its bytes. */
export interface StoredChunk {
  readonly stream: StreamName;
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly bytes: number;
  readonly sha256: string;
}

/** Why a capture may be incomplete beside what its numbers say. */
export type ReadFailure = 'PodGone' | 'LogUnavailable' | 'NodeUnreachable' | 'LogFlooded';

export interface CaptureFacts {
  readonly position: CapturePosition;
  readonly chunks: readonly StoredChunk[];
  readonly summary: AdvisoryObject | undefined;
  readonly summarySeq: number;
  readonly contradicted: readonly StoredChunk[];
  readonly failure: ReadFailure | undefined;
  /** Given whether the log is complete. */
  readonly artifactsComplete: (logComplete: boolean) => boolean;
  /** The container never ran: nothing was emitted, so nothing can be missing. */
  readonly neverStarted: boolean;
}

export interface Completeness {
  /** Of both streams: everything that the sandbox wrote is stored. */
  readonly output: boolean;
  readonly artifacts: boolean;
  /** Of the capture. */
  readonly complete: boolean;
  readonly reason: string | null;
}

/**
 * Complete means: every number from 1 to the summary, which the launcher writes last, is stored, and nothing read later
 * said otherwise. Whether the final read worked does not matter then.
 */
export function completeness(facts: CaptureFacts): Completeness {
  const missing = outputReason(facts);
  const output = missing === null;
  const artifacts = facts.artifactsComplete(output);
  const reason = missing ?? (artifacts ? null : 'ArtifactsIncomplete');
  return { output, artifacts, complete: reason === null, reason };
}

function outputReason(facts: CaptureFacts): string | null {
  const { position, summarySeq, contradicted, failure, neverStarted } = facts;
  if (contradicted.length > 0) return 'OutputContradicted';
  const whole = position.missing.length === 0;
  if (whole && position.lastSeq > 0 && summarySeq === position.lastSeq) return bytesAgree(facts) ? null : 'BytesDiffer';
  if (whole && position.lastSeq === 0 && neverStarted) return null;
  if (failure !== undefined) return failure;
  if (position.missing[0]?.from === 1) return 'LogRotated';
  if (!whole) return 'FramesMissing';
  // The launcher was killed (out of memory, deadline) before its last frame; what it had written is all here.
  return position.lastSeq === 0 ? 'NoFrames' : 'NoSummary';
}

/**
 * Numbers count lines, not what is in them: a runtime that changes a line on its way (containerd cuts carriage returns)
 * shows only here. The launcher's count is advisory: what it says of another number can only cost its own run the word
 * "complete".
 */
function bytesAgree({ position, summary }: CaptureFacts): boolean {
  return (['stdout', 'stderr'] as const).every((stream) => {
    const emitted = countOf(summary, stream, 'emitted');
    return emitted === null || emitted === position.streams[stream].bytes;
  });
}

/** Which frames of a stream are gone is not known, only that they were between these bytes. */
export function streamGaps(
  stream: StreamName,
  missing: readonly SeqRange[],
  chunks: readonly StoredChunk[],
): StreamGap[] {
  const own = chunks.filter((chunk) => chunk.stream === stream).sort((a, b) => a.firstSeq - b.firstSeq);
  let at = 0;
  let afterByte = 0;
  return missing.map(({ from, to }) => {
    for (; at < own.length && own[at]!.lastSeq < from; at += 1) afterByte += own[at]!.bytes;
    return { fromSeq: from, toSeq: to, afterByte };
  });
}

export function streamLedger(stream: StreamName, facts: CaptureFacts, complete: boolean): StreamLedgerInput {
  const { bytes, lines } = facts.position.streams[stream];
  return {
    bytes,
    lines,
    gaps: streamGaps(stream, facts.position.missing, facts.chunks),
    truncated: truncatedStreams(facts.summary)[stream],
    complete,
    producedBytes: countOf(facts.summary, stream, 'bytes'),
  };
}

export function streamLedgers(facts: CaptureFacts, complete: boolean): FinishCapture['streams'] {
  return { stdout: streamLedger('stdout', facts, complete), stderr: streamLedger('stderr', facts, complete) };
}

function countOf(summary: AdvisoryObject | undefined, stream: StreamName, field: 'bytes' | 'emitted'): number | null {
  const entry = summary?.[stream];
  const count = typeof entry === 'object' && entry !== null && !Array.isArray(entry) ? entry[field] : undefined;
  return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0 ? count : null;
}
