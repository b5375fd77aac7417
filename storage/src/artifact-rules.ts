import type { Transaction } from './database.ts';
import { MissingContentError } from './errors.ts';
import type { FileStore } from './files.ts';
import type { ArtifactInput, FinishCapture } from './types.ts';

/**
 * Between those who name content and the sweep that deletes it. A capture holds it shared from before it asks whether its
 * content is there until the rows that name it are committed; the sweep holds it alone from before it looks for such rows
 * until it has deleted. So either the sweep sees the rows, or the capture sees that the content is gone and puts it again.
 * How old a file is only decides what is worth looking at.
 */
export const SWEEP_LOCK = 0x43_52_55_53;

export const QUOTA_REASON = "the namespace's quota for artifacts is used up";
const CONCURRENT_LOOKS = 32;
/** Postgres ends a session that stands idle in a transaction for 15 s: so long for the looks between two statements. */
const LOOK_MS = 10_000;

export interface ArtifactRules {
  /** Where the content has to be. Without it nobody looks. */
  files?: Pick<FileStore, 'has'>;
  /** Of all artifacts of the evaluation's namespace together; undefined: no limit. */
  maxNamespaceBytes?: number | undefined;
}

/** What of a capture's artifacts may be recorded as stored, in the transaction that records it. */
export async function admitArtifacts(tx: Transaction, input: FinishCapture, rules: ArtifactRules): Promise<FinishCapture> {
  const stored = input.artifacts.filter(({ complete }) => complete);
  if (stored.length === 0) return input;
  if (rules.files !== undefined) {
    await tx.query('SELECT pg_advisory_xact_lock_shared($1)', [SWEEP_LOCK]);
    const missing = await absent(tx, rules.files, [...new Set(stored.flatMap(({ sha256 }) => sha256 ?? []))]);
    if (missing.length > 0) throw new MissingContentError(missing);
  }
  if (rules.maxNamespaceBytes === undefined) return input;
  const { rows } = await tx.query<{ used: number }>('SELECT crucible.lock_artifact_usage($1) AS used', [input.evaluationUid]);
  return withinQuota(input, rules.maxNamespaceBytes - (rows[0]?.used ?? 0));
}

/** In order, and what fits fits: a large file that is refused does not refuse the small ones after it. */
export function withinQuota(input: FinishCapture, bytesLeft: number): FinishCapture {
  let left = bytesLeft;
  let refused = false;
  const artifacts = input.artifacts.map((artifact): ArtifactInput => {
    if (!artifact.complete || artifact.size <= left) {
      left -= artifact.complete ? artifact.size : 0;
      return artifact;
    }
    refused = true;
    return { ...artifact, sha256: null, complete: false, refused: QUOTA_REASON };
  });
  if (!refused) return input;
  return { ...input, artifacts, artifactsComplete: false, complete: false, reason: input.reason ?? 'ArtifactsIncomplete' };
}

async function absent(tx: Transaction, files: Pick<FileStore, 'has'>, sha256s: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (let from = 0; from < sha256s.length; from += CONCURRENT_LOOKS) {
    // So that looking at many does not count as standing idle.
    if (from > 0) await tx.query('SELECT 1');
    const signal = AbortSignal.timeout(LOOK_MS);
    const look = async (sha256: string): Promise<void> => {
      if (!(await files.has(sha256, { signal }))) missing.push(sha256);
    };
    await Promise.all(sha256s.slice(from, from + CONCURRENT_LOOKS).map(look));
  }
  return missing;
}
