import { isUnavailable, type ArtifactRules, type FileStore, type FinishCapture } from '@crucible/storage';
import type { RecorderContext } from './context.ts';
import type { PassOptions } from './pass.ts';

const SWEPT_REASON = 'its content was deleted before the record named it';

/** What every reading of a run's log needs. */
export function passOptions(context: RecorderContext, evaluationUid: string): PassOptions {
  const { files, metrics, quota } = context;
  const { maxNamespaceBytes } = quota;
  const options = { files, metrics, limits: quota.run };
  if (maxNamespaceBytes === undefined) return options;
  const allowance = async (): Promise<number> => {
    try {
      return maxNamespaceBytes - (await quota.usedBytes(evaluationUid));
    } catch (error) {
      // Reading goes on while Postgres is away; what is too much is refused when the capture is finished.
      if (isUnavailable(error)) return Infinity;
      throw error;
    }
  };
  return { ...options, allowance };
}

/** A file store that is away is not Postgres being away: said here, so that nobody waits for the wrong one. */
export function artifactRules({ files, quota }: RecorderContext): ArtifactRules {
  const has: FileStore['has'] = async (sha256, call) => {
    try {
      return await files.has(sha256, call);
    } catch (error) {
      if (isUnavailable(error)) throw new Error(error.message, { cause: error });
      throw error;
    }
  };
  return { files: { has }, maxNamespaceBytes: quota.maxNamespaceBytes };
}

/** The same, saying of content that is gone for good that it is. */
export function withoutContent(input: FinishCapture, gone: ReadonlySet<string>): FinishCapture {
  const lost = (sha256: string | null): boolean => sha256 !== null && gone.has(sha256);
  if (!input.artifacts.some(({ sha256 }) => lost(sha256))) return input;
  const artifacts = input.artifacts.map((artifact) =>
    lost(artifact.sha256) ? { ...artifact, sha256: null, complete: false, refused: SWEPT_REASON } : artifact,
  );
  return { ...input, artifacts, artifactsComplete: false, complete: false, reason: input.reason ?? 'ArtifactsIncomplete' };
}
