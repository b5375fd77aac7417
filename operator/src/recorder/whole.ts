import type { CapturePosition } from '@crucible/storage';
import type { LogPass, PassEnd } from './pass.ts';
import type { SandboxContainer } from './pods.ts';

/** `left`: by us, a moment after the container's end was known. `cut`: by anything else. */
export type FollowEnd = PassEnd | 'left' | 'cut';

/** How a capture followed its log. */
export interface Following {
  /** Nothing was stored or spooled before it. */
  readonly fresh: boolean;
  /** Follows begun, also those that never got a byte, or no permit before the pod ended. */
  readonly passes: number;
  /** Of the newest. */
  readonly end: FollowEnd;
  /** As the newest was begun. */
  readonly container: SandboxContainer | undefined;
}

export interface WholeFacts extends Following {
  readonly pass: Pick<LogPass, 'sequence' | 'summarySeq' | 'decoder'>;
  /** The container now. */
  readonly ended: SandboxContainer | undefined;
  /** Once everything is in Postgres. */
  readonly position: CapturePosition;
  /** All of it by appends of this capture's own, and never by way of the spool. */
  readonly direct: boolean;
}

export type Doubt =
  | 'NotFresh'
  | 'NotOnePass'
  | 'NotReadToItsEnd'
  | 'NotEnded'
  | 'OtherContainer'
  | 'NotOnlyFrames'
  | 'NotEveryNumber'
  | 'NotTheSummaryLast'
  | 'NotStoredDirectly'
  | 'NotAllStored';

/**
 * Why following may not have seen the whole log, so that it must be read again; undefined when it has: one follow from the
 * log's start, of the container that has ended, brought every number once and the launcher's last frame last, and exactly
 * that is stored. A second reading could then only confirm it (docs/adr/0018).
 */
export function doubtOf(facts: WholeFacts): Doubt | undefined {
  const { pass, position, container, ended } = facts;
  const { lastSeq, gaps, duplicates, late } = pass.sequence;
  const { foreignLines, oversizedLines, unterminatedBytes } = pass.decoder.stats;
  if (!facts.fresh) return 'NotFresh';
  if (facts.passes !== 1) return 'NotOnePass';
  if (facts.end !== 'end' && facts.end !== 'left') return 'NotReadToItsEnd';
  if (!ended?.ended) return 'NotEnded';
  if (ended.restarted || container?.id !== ended.id) return 'OtherContainer';
  if (foreignLines + oversizedLines + unterminatedBytes > 0) return 'NotOnlyFrames';
  if (gaps.size + duplicates + late > 0) return 'NotEveryNumber';
  if (lastSeq === 0 || pass.summarySeq !== lastSeq) return 'NotTheSummaryLast';
  if (!facts.direct) return 'NotStoredDirectly';
  if (position.lastSeq !== lastSeq || position.missing.length > 0) return 'NotAllStored';
  return undefined;
}
