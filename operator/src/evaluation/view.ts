import { LIMITS, clip, verdictSchema } from '@crucible/crds';
import type { Attempt, Verdict } from '@crucible/crds';
import type { AcceptedRiskRecord, AttemptRecord } from '@crucible/storage';
import type { AttemptEnd, Claim, View } from './actions.ts';
import type { Score } from './expect.ts';
import type { Pod } from './objects.ts';
import { startedAt } from './pod.ts';
import { asReceipt, containedClaim, receiptView } from './receipt.ts';
import { currentAttempt } from './snapshot.ts';
import type { Snapshot, StoredOutput } from './snapshot.ts';
import { STDERR_TAIL_BYTES, tailText } from './tail.ts';

// The parts of a view. They read the record as it is, or as it will be after `end` is written, so that a status says
// the
// same whether the operator was killed in between or not.

export const ADMITTED: Claim = { status: 'True', reason: 'Admitted', message: 'The evaluation was admitted.' };
export const STARTED: Claim = { status: 'True', reason: 'ContainerStarted', message: 'The code has started.' };
export const NEVER_STARTED: Claim = { status: 'False', reason: 'NeverStarted', message: 'The code never started.' };
export const CAPTURING: Claim = { status: 'False', reason: 'Capturing', message: 'Its output is being stored.' };
export const CAPTURED: Claim = {
  status: 'True',
  reason: 'Captured',
  message: 'All output that is kept of it is stored.',
};
export const NO_OUTPUT: Claim = {
  status: 'True',
  reason: 'NoOutput',
  message: 'The code never ran, so there is no output.',
};
/** Unknown, so that the condition's own transition time says since when. */
export const POD_GONE: Claim = {
  status: 'Unknown',
  reason: 'PodGone',
  message: 'The pod is gone; what was followed of its output is being stored.',
};
export const POD_LOST: Claim = {
  status: 'False',
  reason: 'PodGone',
  message: 'The pod was gone before its output was stored.',
};

/** Nobody waits for the answer any more, so what may take long is not begun. */
export const NOT_SCORED: Claim = {
  status: 'Unknown',
  reason: 'NotScored',
  message: 'It was cancelled, so it was not compared with spec.expect.',
};

/** What an administrator has accepted of the sandbox that it runs in is said of every run, and with its receipt. */
export function withRisks(view: View, risks: readonly AcceptedRiskRecord[]): View {
  if (view.accepted !== ADMITTED) return view;
  const told = risks.map(({ rules, reason }) => {
    const what =
      rules.length === 0 ? 'nothing was drilled' : `rules ${rules.join(', ')} of the sandbox are not shown to hold`;
    return `${what} (${reason})`;
  });
  const message = clip(`Admitted although ${told.join('; ')}.`, LIMITS.messageCharacters);
  const accepted: Claim = { status: 'True', reason: 'AdmittedWithAcceptedRisk', message };
  const acceptedRisks = risks.map(({ rules, reason }) => ({ rules: [...rules], reason: clip(reason, 256) }));
  return { ...view, accepted, ...(view.receipt && { receipt: { ...view.receipt, acceptedRisks } }) };
}

/** RFC 3339 in whole seconds, as Kubernetes writes times. */
export function time(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}

export function attemptViews(snapshot: Snapshot, end?: AttemptEnd): Attempt[] {
  const rows = snapshot.record === 'unavailable' ? [] : snapshot.record.attempts;
  const current = currentAttempt(snapshot);
  return rows.map((row) =>
    attemptView(row, row === current ? snapshot.pod : undefined, end?.number === row.number ? end : undefined),
  );
}

function attemptView(row: AttemptRecord, pod: Pod | undefined, end: AttemptEnd | undefined): Attempt {
  const live = pod && startedAt(pod);
  const started = end?.startedAt ?? row.startedAt ?? (live === undefined ? null : new Date(live));
  const finished = end?.finishedAt ?? row.finishedAt;
  const exitCode = end?.exitCode ?? row.exitCode;
  const signal = end?.signal ?? row.signal;
  const podName = end?.pod?.podName ?? row.podName ?? pod?.metadata.name;
  const node = end?.pod?.node ?? row.node ?? pod?.spec?.nodeName;
  const judged = asVerdict(end?.verdict ?? row.verdict);
  return {
    number: row.number,
    jobName: row.jobName,
    ...(podName != null && { podName }),
    ...(node != null && { node }),
    ...(started !== null && { startedAt: time(started) }),
    ...(finished !== null && { finishedAt: time(finished) }),
    ...(exitCode !== null && { exitCode }),
    ...(signal !== null && { signal }),
    ...(judged !== undefined && { verdict: shortVerdict(judged) }),
  };
}

function shortVerdict({ class: kind, attributableTo, confidence, message }: Verdict): NonNullable<Attempt['verdict']> {
  return {
    class: kind,
    ...(attributableTo !== undefined && { attributableTo }),
    ...(confidence !== undefined && { confidence }),
    message: clip(message, LIMITS.attemptMessageCharacters),
  };
}

/** A verdict as it comes back from the record. */
export function asVerdict(stored: unknown): Verdict | undefined {
  const parsed = verdictSchema.safeParse(stored);
  return parsed.success ? parsed.data : undefined;
}

export function capturedClaim(output: StoredOutput): Claim {
  const { complete, reason } = output.capture;
  if (complete !== false) return CAPTURED;
  return {
    status: 'False',
    reason: reason ?? 'Incomplete',
    message: 'Part of the output could not be stored; the ledger in the record says which.',
  };
}

export function passedClaim({ passed, reason, message }: Score): Claim {
  return { status: passed ? 'True' : 'False', reason, message };
}

/** What the record says of an Evaluation that expects something. */
export function recordedClaim(snapshot: Snapshot): Claim | undefined {
  if (snapshot.evaluation?.spec.expect === undefined) return undefined;
  const row = snapshot.record === 'unavailable' ? undefined : snapshot.record.evaluation;
  if (row == null || row.passed === null) return NOT_SCORED;
  const { passed, passedReason, passedMessage } = row;
  const reason = passedReason ?? (passed ? 'AsExpected' : 'NotAsExpected');
  return passedClaim({ passed, reason, message: passedMessage ?? '' });
}

/** What the stored output adds to a status; nothing before it is captured. */
export function outputParts(
  output: StoredOutput | undefined,
  wantsArtifacts: boolean,
): Pick<View, 'output' | 'artifacts'> {
  if (output === undefined) return {};
  const { capture, stderrTail } = output;
  const { stdout, stderr } = capture.streams;
  return {
    output: {
      stdoutBytes: stdout.producedBytes ?? stdout.bytes,
      stderrBytes: stderr.producedBytes ?? stderr.bytes,
      truncated: stdout.truncated || stderr.truncated,
      complete: stdout.complete && stderr.complete,
      tail: clip(tailText(output.tail), LIMITS.tailCharacters),
      ...(stderrTail && { stderrTail: clip(tailText(stderrTail, STDERR_TAIL_BYTES), LIMITS.stderrTailCharacters) }),
    },
    ...(wantsArtifacts && {
      artifacts: {
        count: capture.artifacts.count,
        bytes: capture.artifacts.bytes,
        complete: capture.artifacts.complete,
      },
    }),
  };
}

/** What a receipt adds to a status: of the attempt that is over, as it is or will be in the record. */
export function receiptParts(stored: unknown): Pick<View, 'receipt' | 'contained'> {
  const receipt = asReceipt(stored);
  if (receipt === undefined) return {};
  return { contained: containedClaim(receipt), ...(receipt.sandbox !== null && { receipt: receiptView(receipt) }) };
}
