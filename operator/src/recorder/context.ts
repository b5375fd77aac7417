import type { AttemptRepository, CaptureRepository, FileStore } from '@crucible/storage';
import type { Logger } from 'pino';
import type { Clock, PodLogOptions, PodLogStream } from '../kube/index.ts';
import type { ArtifactLimits } from './artifacts.ts';
import type { Claims } from './claims.ts';
import type { DatabaseHealth } from './database.ts';
import type { RecorderMetrics } from './metrics.ts';
import type { MemoryBudget } from './budget.ts';
import type { PodClaim, SandboxPod } from './pods.ts';
import type { Slots } from './slots.ts';
import type { Spool } from './spool.ts';

export interface LogReader {
  podLog(namespace: string, pod: string, options?: PodLogOptions): Promise<PodLogStream>;
}

/** Everything that all captures of a recorder share. */
export interface RecorderContext {
  readonly logs: LogReader;
  readonly attempts: Pick<AttemptRepository, 'findByJobUid'>;
  readonly captures: Pick<CaptureRepository, 'begin' | 'append' | 'reconcile' | 'finish'>;
  readonly files: Pick<FileStore, 'put' | 'has'>;
  readonly quota: ArtifactQuota;
  readonly claims: Claims;
  readonly database: DatabaseHealth;
  readonly spool: Spool;
  readonly follows: Slots;
  /** Final reads, and readings of what was spooled, hold whole files: few at once. */
  readonly finals: Slots;
  /** Logs being opened: each brings at once whatever it holds, so a thousand at once would hold a thousand times that. */
  readonly openings: Slots;
  /** Spools being stored: all captures have one when Postgres comes back. */
  readonly drains: Slots;
  /** Captures with artifacts being closed: each keeps a connection while the file store is asked, which may hang. */
  readonly closings: Slots;
  readonly artifactBudget: MemoryBudget;
  /** What readers may read ahead of Postgres, all together. */
  readonly writeBudget: MemoryBudget;
  readonly metrics: RecorderMetrics;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly patience: Patience;
}

/** Of what a run and a namespace may leave in the file store. */
export interface ArtifactQuota {
  readonly run: ArtifactLimits;
  /** undefined: no limit. Exact when a capture is finished; asked before, so that what is refused is not stored first. */
  readonly maxNamespaceBytes: number | undefined;
  readonly usedBytes: (evaluationUid: string) => Promise<number>;
}

export interface Patience {
  /** How long a pod whose Job nobody knows is asked for: the operator records the Job right after creating it. */
  readonly unknownAttemptMs: number;
  readonly unknownRetryMs: number;
  /** How long the log of an ended pod is asked for while its node does not answer. */
  readonly unreachableMs: number;
  /** Between two looks at a capture that another recorder holds. */
  readonly heldMs: number;
  /** A log that does not end with a summary is read again after this, until two readings agree. */
  readonly settleMs: number;
  /** How long a follow without its last frame may go on after its container has ended: the final read misses nothing. */
  readonly drainMs: number;
  /**
   * How long a follow with its last frame still listens for more after its container has ended. What was written before
   * that end comes sooner than the news of it; a kubelet itself takes up to a second to end a follow.
   */
  readonly listenMs: number;
  /** How long a log that has ended with its last frame is not followed again: its container's end is told after a second. */
  readonly endedMs: number;
  /** How long a log may take to begin before the next is opened: a silent one begins with its first byte. */
  readonly openingMs: number;
  readonly reconnectBaseMs: number;
  readonly reconnectMaxMs: number;
}

export const PATIENCE: Patience = {
  unknownAttemptMs: 60_000,
  unknownRetryMs: 250,
  unreachableMs: 180_000,
  heldMs: 5_000,
  settleMs: 300,
  drainMs: 250,
  listenMs: 25,
  endedMs: 2_000,
  openingMs: 100,
  reconnectBaseMs: 200,
  reconnectMaxMs: 10_000,
};

/** The pod as the informer last saw it; undefined once it is gone, or another pod took its name. */
export interface PodView {
  readonly claim: PodClaim;
  current(): SandboxPod | undefined;
  /** Resolves at the next change, or when the signal aborts. */
  changed(signal: AbortSignal): Promise<void>;
}
