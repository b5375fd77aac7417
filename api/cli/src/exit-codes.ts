import type { VerdictClass } from '@crucible/crds';
import type { Evaluation } from '@crucible/client';

// What scripts read: docs/cli.md has the table. The tens say whose part of the world it was.

export const EXIT = {
  succeeded: 0,
  /** The command itself failed: nothing is said about a run. */
  failed: 1,
  /** Not a command, an option or a file that it takes. */
  usage: 2,
  /** It succeeded, and spec.expect does not hold. */
  notPassed: 3,
  /** Not accepted: it does not run as it is written. */
  notAccepted: 32,
  /** A verdict that this version does not know. */
  unknownVerdict: 59,
  interrupted: 130,
  brokenPipe: 141,
  terminated: 143,
} as const;

export const VERDICT_EXIT: Readonly<Record<VerdictClass, number>> = {
  Succeeded: EXIT.succeeded,
  NonZeroExit: 10,
  Signalled: 11,
  TimedOut: 12,
  OutOfMemory: 13,
  DiskExceeded: 14,
  PidsExceeded: 15,
  Evicted: 20,
  Preempted: 21,
  NodeLost: 22,
  Unschedulable: 23,
  QuotaExceeded: 30,
  SandboxRefused: 31,
  Cancelled: 40,
  InvalidImage: 41,
  ImagePullFailed: 42,
  InternalError: 50,
};

export function exitCodeOf({ verdict, passed }: Pick<Evaluation, 'verdict' | 'passed'>): number {
  const code = verdict === null ? undefined : VERDICT_EXIT[verdict.class as VerdictClass];
  if (code === undefined) return EXIT.unknownVerdict;
  return code === EXIT.succeeded && passed === false ? EXIT.notPassed : code;
}
