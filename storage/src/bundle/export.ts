import { Readable } from 'node:stream';
import { ArtifactRepository } from '../artifacts.ts';
import { AttemptRepository } from '../attempts.ts';
import { CaptureRepository } from '../captures.ts';
import type { Database } from '../database.ts';
import { IntegrityError, NotFoundError } from '../errors.ts';
import { EventRepository } from '../events.ts';
import type { FileStore } from '../files.ts';
import { listKubernetesEvents } from '../queries/kubernetes-events.ts';
import { STREAM_NAMES } from '../types.ts';
import type { ArtifactRecord, AttemptRecord, CaptureRecord, StreamName } from '../types.ts';
import { pack } from './pack.ts';
import type { BundlePart } from './pack.ts';
import { BUNDLE_README } from './readme.ts';
import { readRun } from './record.ts';
import type { EvaluationDocument } from './record.ts';
import type { SigningKey } from './signing-key.ts';

export interface BundleSources {
  /** Of a role that may read everything: the API's. */
  readonly database: Database;
  readonly files: Pick<FileStore, 'read'>;
  readonly key: SigningKey;
}

export interface Bundle {
  /** For Content-Disposition; letters, digits, dots and dashes. */
  readonly fileName: string;
  /**
   * The archive (application/x-tar), made while it is read: a slow reader holds nothing but one artifact. It is destroyed
   * with an error, so that what was sent ends too early, when a store fails on the way.
   */
  readonly stream: Readable;
}

const EVENTS_PAGE = 1000;

/**
 * The evidence of a finished run. Throws NotFoundError or NotFinishedError before there is a stream. What retention has
 * deleted, or what was never captured, is named as missing in the manifest. The same record gives the same bytes.
 */
export async function exportBundle(sources: BundleSources, evaluationUid: string): Promise<Bundle> {
  const { evaluation, spec } = await readRun(sources.database, evaluationUid);
  const { uid, namespace, name } = evaluation;
  const archive = pack(new RunParts(sources, evaluation, spec).all(), { uid, namespace, name }, sources.key);
  return { fileName: `crucible-${namespace}-${name}-${uid}.tar`, stream: Readable.from(archive, { objectMode: false }) };
}

/** The parts of one run, in the order in which the archive has them. */
class RunParts {
  readonly #database: Database;
  readonly #files: Pick<FileStore, 'read'>;
  readonly #attempts: AttemptRepository;
  readonly #captures: CaptureRepository;
  readonly #artifacts: ArtifactRepository;
  readonly #events: EventRepository;
  readonly #evaluation: EvaluationDocument;
  readonly #spec: string;
  readonly #contents = new Set<string>();

  constructor({ database, files }: BundleSources, evaluation: EvaluationDocument, spec: string) {
    this.#database = database;
    this.#files = files;
    this.#attempts = new AttemptRepository(database);
    this.#captures = new CaptureRepository(database);
    this.#artifacts = new ArtifactRepository(database);
    this.#events = new EventRepository(database);
    this.#evaluation = evaluation;
    this.#spec = spec;
  }

  async *all(): AsyncGenerator<BundlePart, void, void> {
    yield { name: 'README.txt', content: Buffer.from(BUNDLE_README) };
    yield json('evaluation.json', this.#evaluation);
    yield { name: 'spec.json', content: Buffer.from(this.#spec) };
    yield* this.#timeline();
    for (const attempt of await this.#attempts.list(this.#evaluation.uid)) yield* this.#attempt(attempt);
    for (const sha256 of [...this.#contents].sort()) yield await this.#content(sha256);
  }

  /** Positions are left out: they belong to the bus, come later, and say nothing about the run. */
  async *#timeline(): AsyncGenerator<BundlePart, void, void> {
    let page = 1;
    for (let after = 0, more = true; more; ) {
      const events = await this.#events.list(this.#evaluation.uid, { after, limit: EVENTS_PAGE });
      if (events.length > 0) yield timelinePage(page++, events.map(({ seq, type, at, data }) => ({ seq, type, at, data })));
      more = events.length === EVENTS_PAGE;
      after = events.at(-1)?.seq ?? after;
    }
    // Among the files of events, which every verifier knows: none of them has to change.
    const { events: told, leftOut } = await listKubernetesEvents(this.#database, this.#evaluation.uid, 'all');
    const lines = told.map((event) => ({ source: 'kubernetes', ...event }));
    const last = leftOut === null ? [] : [{ source: 'kubernetes', leftOut }];
    if (lines.length > 0) yield timelinePage(page, [...lines, ...last]);
  }

  async *#attempt(attempt: AttemptRecord): AsyncGenerator<BundlePart, void, void> {
    const folder = `attempts/${attempt.number}`;
    const { receipt: whole, ...own } = attempt;
    yield json(`${folder}/attempt.json`, own);
    const capture = await this.#captures.get(attempt.evaluationUid, attempt.number);
    if (capture === undefined) return yield* missing(folder, 'NeverCaptured');
    const { receipt: measured, summary, ...rest } = capture;
    yield json(`${folder}/capture.json`, rest);
    if (capture.state !== 'captured') return yield* missing(folder, 'CaptureNotFinished');
    // As the status digests it: `sha256sum receipt.json` is status.receipt.digest. Attempts from before receipts were kept
    // whole have what the sandbox sent.
    const receipt = whole ?? measured;
    if (receipt === null) yield { name: `${folder}/receipt.json`, reason: 'NotSent' };
    else yield { name: `${folder}/receipt.json`, content: Buffer.from(JSON.stringify(sorted(receipt))) };
    if (summary === null) yield { name: `${folder}/summary.json`, reason: 'NotSent' };
    else yield json(`${folder}/summary.json`, summary);
    for (const stream of STREAM_NAMES) yield await this.#output(`${folder}/${stream}`, capture, stream);
    const artifacts = await this.#artifacts.list(attempt.evaluationUid, attempt.number);
    yield json(`${folder}/artifacts.json`, artifacts.map(describe));
    for (const { complete, sha256 } of artifacts) if (complete && sha256 !== null) this.#contents.add(sha256);
  }

  async #output(name: string, capture: CaptureRecord, stream: StreamName): Promise<BundlePart> {
    const size = capture.streams[stream].bytes;
    if (size === 0) return { name, content: Buffer.alloc(0) };
    // Looked at before anything of it is written: then it can still be called missing.
    const first = await this.#captures.readOutput(capture.evaluationUid, capture.attempt, stream);
    if (first.data.length === 0) return { name, reason: this.#evaluation.outputDeletedAt === null ? 'ContentMissing' : 'DeletedByRetention' };
    return { name, content: { size, pieces: this.#slices(capture, stream, first.data) } };
  }

  async *#slices(capture: CaptureRecord, stream: StreamName, first: Buffer): AsyncGenerator<Buffer, void, void> {
    let data = first;
    for (let offset = 0; data.length > 0; ) {
      yield data;
      offset += data.length;
      if (offset >= capture.streams[stream].bytes) return;
      ({ data } = await this.#captures.readOutput(capture.evaluationUid, capture.attempt, stream, { offset }));
    }
  }

  /** Whole in memory, which the cap on a run's output bounds: damage must be known before its header is written. */
  async #content(sha256: string): Promise<BundlePart> {
    const name = `artifacts/${sha256}`;
    // Also while the sweep has not come by yet, or another run keeps the same content: for this one it is gone.
    if (this.#evaluation.artifactsDeletedAt !== null) return { name, reason: 'DeletedByRetention' };
    try {
      return { name, content: await this.#files.read(sha256) };
    } catch (error) {
      if (error instanceof IntegrityError) return { name, reason: 'ContentDamaged' };
      if (error instanceof NotFoundError) return { name, reason: 'ContentMissing' };
      throw error;
    }
  }
}

function* missing(folder: string, reason: string): Generator<BundlePart, void, void> {
  if (reason === 'NeverCaptured') yield { name: `${folder}/capture.json`, reason };
  for (const name of ['receipt.json', 'summary.json', 'stdout', 'stderr', 'artifacts.json']) yield { name: `${folder}/${name}`, reason };
}

const timelinePage = (page: number, lines: readonly object[]): BundlePart => ({
  name: `events/${String(page).padStart(6, '0')}.jsonl`,
  content: Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join('')),
});

const json = (name: string, value: unknown): BundlePart => ({ name, content: Buffer.from(`${JSON.stringify(value, null, 2)}\n`) });

const describe = ({ index, path, size, sha256, complete, refused, mode }: ArtifactRecord): object => ({
  index, path, size, sha256, complete, refused, mode,
});

/** jsonb does not keep the order of keys. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
