import { describe, expect, it } from 'vitest';
import { completeness, streamGaps, streamLedger, type CaptureFacts, type StoredChunk } from './ledger.ts';

const chunk = (stream: 'stdout' | 'stderr', firstSeq: number, lastSeq: number, bytes: number): StoredChunk => ({
  stream,
  firstSeq,
  lastSeq,
  bytes,
  sha256: '',
});

function facts(
  change: Partial<CaptureFacts> & { lastSeq?: number; missing?: { from: number; to: number }[] } = {},
): CaptureFacts {
  const { lastSeq = 9, missing = [], ...rest } = change;
  const streams = { stdout: { bytes: 10, lines: 2 }, stderr: { bytes: 0, lines: 0 } };
  return {
    position: { lastSeq, missing, streams },
    chunks: [],
    summary: {},
    summarySeq: 9,
    contradicted: [],
    failure: undefined,
    neverStarted: false,
    artifactsComplete: (log) => log,
    ...rest,
  };
}

describe('completeness', () => {
  it.each([
    ['everything up to the summary', facts(), null],
    ['the same, followed before the pod went', facts({ failure: 'PodGone' }), null],
    ['a container that never ran', facts({ lastSeq: 0, summarySeq: 0, neverStarted: true }), null],
    ['a container that ran and left nothing', facts({ lastSeq: 0, summarySeq: 0 }), 'NoFrames'],
    ['as many bytes as the launcher sent', facts({ summary: { stdout: { emitted: 10 }, stderr: { emitted: 0 } } }), null],
    ['fewer bytes than the launcher sent', facts({ summary: { stdout: { emitted: 11 } } }), 'BytesDiffer'],
    ['no summary', facts({ summarySeq: 0 }), 'NoSummary'],
    ['frames after the summary', facts({ summarySeq: 8 }), 'NoSummary'],
    ['a hole', facts({ missing: [{ from: 4, to: 5 }] }), 'FramesMissing'],
    ['a lost beginning', facts({ missing: [{ from: 1, to: 5 }] }), 'LogRotated'],
    ['a pod that vanished', facts({ failure: 'PodGone', summarySeq: 0 }), 'PodGone'],
    [
      'a hole and no log any more',
      facts({ failure: 'LogUnavailable', missing: [{ from: 4, to: 5 }] }),
      'LogUnavailable',
    ],
    ['an artifact that is not whole', facts({ artifactsComplete: () => false }), 'ArtifactsIncomplete'],
    ['other bytes in the log than stored', facts({ contradicted: [chunk('stdout', 1, 2, 3)] }), 'OutputContradicted'],
  ])('judges %s', (_, input, reason) => {
    expect(completeness(input)).toMatchObject({
      complete: reason === null,
      reason,
      output: reason === null || reason === 'ArtifactsIncomplete',
    });
  });
});

describe('streamGaps', () => {
  it('says behind which byte of each stream the missing frames were', () => {
    const chunks = [chunk('stdout', 3, 5, 100), chunk('stderr', 4, 4, 7), chunk('stdout', 8, 9, 50)];
    const missing = [
      { from: 1, to: 2 },
      { from: 6, to: 7 },
      { from: 12, to: 12 },
    ];
    expect(streamGaps('stdout', missing, chunks).map((gap) => gap.afterByte)).toEqual([0, 100, 150]);
    expect(streamGaps('stderr', missing, chunks).map((gap) => gap.afterByte)).toEqual([0, 7, 7]);
  });
});

describe('streamLedger', () => {
  it('takes truncation and produced bytes from the summary when they make sense', () => {
    const summary = { stdout: { truncated: true, bytes: 1e6 }, stderr: { truncated: false, bytes: -1 } };
    expect(streamLedger('stdout', facts({ summary }), true)).toEqual({
      bytes: 10,
      lines: 2,
      gaps: [],
      truncated: true,
      complete: true,
      producedBytes: 1e6,
    });
    expect(streamLedger('stderr', facts({ summary }), true)).toMatchObject({ truncated: false, producedBytes: null });
    expect(streamLedger('stdout', facts({ summary: undefined }), false)).toMatchObject({
      truncated: false,
      complete: false,
      producedBytes: null,
    });
  });
});
