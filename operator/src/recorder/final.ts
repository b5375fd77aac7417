import { SANDBOX_CONTAINER } from '@crucible/crds';
import { MissingContentError, type CapturePosition, type FinishCapture, type FinishCaptureOutcome } from '@crucible/storage';
import type { Logger } from 'pino';
import { isAborted, isNotFound, isTransient, KubeError, sleep } from '../kube/index.ts';
import type { PodView, RecorderContext } from './context.ts';
import {
  completeness,
  streamLedgers,
  type CaptureFacts,
  type Completeness,
  type ReadFailure,
  type StoredChunk,
} from './ledger.ts';
import { LogPass } from './pass.ts';
import { logState, sandboxContainer } from './pods.ts';
import { artifactRules, passOptions, withoutContent } from './quota.ts';
import { CaptureMoved, FinalRead } from './reconcile.ts';
import { doubtOf, type Doubt, type Following } from './whole.ts';
import type { CaptureWriter } from './writer.ts';

/** Readings until two agree. A log that still grows after so many belongs to no ended container. */
const MAX_READINGS = 5;

interface Reading {
  readonly pass: LogPass | undefined;
  readonly contradicted: readonly StoredChunk[];
  readonly failure: ReadFailure | undefined;
  readonly neverStarted: boolean;
}

/** A reading and what the ledger will say of it. */
interface Assessed {
  readonly reading: Reading;
  readonly facts: CaptureFacts;
  readonly result: Completeness;
  /** Why following was not enough. */
  readonly doubt?: Doubt | 'NotComplete' | 'NotTheFirstTry';
}

export interface FinalOptions {
  readonly context: RecorderContext;
  readonly view: PodView;
  readonly writer: CaptureWriter;
  /** What the newest follow learned, for a pod whose log cannot be read any more. */
  readonly followed: LogPass | undefined;
  readonly following: Following;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * Reads an ended log once more from its start, unless following has seen all of it, reconciles, writes the ledger and marks
 * the capture as captured.
 */
export async function finishCapture(options: FinalOptions): Promise<{ complete: boolean }> {
  const { context, view, writer, signal, logger } = options;
  const gone = new Set<string>();
  // Whatever makes this begin again was not foreseen: then the log is read.
  for (let missed = 0, first = true; ; first = false) {
    await writer.settle();
    let assessed: Assessed;
    try {
      assessed = await assessEnded(options, first);
    } catch (error) {
      if (error instanceof CaptureMoved) continue;
      throw error;
    }
    const { reading, facts, result, doubt } = assessed;
    const input = withoutContent(finishInput(options, reading, facts, result), gone);
    let finished: FinishCaptureOutcome;
    try {
      finished = await context.database.persist(() => close(options, input), signal);
    } catch (error) {
      if (!(error instanceof MissingContentError)) throw error;
      // Swept before the record named it. Another reading puts it again, as long as there is a log to read.
      missed += 1;
      if (missed >= MAX_READINGS || bestPass(reading.pass, options.followed) !== reading.pass) {
        for (const name of error.sha256s) gone.add(name);
      }
      continue;
    }
    const { outcome, position } = finished;
    if (outcome === 'stale') {
      writer.position = position;
      continue;
    }
    await writer.discardSpool();
    context.metrics.captures.inc({ result: result.complete ? 'complete' : 'incomplete' });
    context.metrics.contradictions.inc(reading.contradicted.length);
    context.metrics.foreignLines.inc(reading.pass?.decoder.stats.foreignLines ?? 0);
    logger.info(
      {
        pod: view.claim.name,
        complete: result.complete,
        reason: result.reason,
        neverStarted: reading.neverStarted,
        bytes: totalBytes(position),
        lastSeq: position.lastSeq,
        missing: position.missing.length,
        contradicted: reading.contradicted
          .map(({ stream, firstSeq, lastSeq }) => ({ stream, firstSeq, lastSeq }))
          .slice(0, 10),
        read: reading.pass?.decoder.stats,
        doubt,
      },
      'output captured',
    );
    return result;
  }
}

async function assessEnded(options: FinalOptions, first: boolean): Promise<Assessed> {
  const doubt = first ? await assessFollow(options) : 'NotTheFirstTry';
  if (typeof doubt === 'object') return doubt;
  return { ...(await assess(options, await readEnded(options))), doubt };
}

/** The follow taken for the only reading, or why it must not be. */
async function assessFollow(options: FinalOptions): Promise<Assessed | Doubt | 'NotComplete'> {
  const { followed: pass, following, view, writer } = options;
  if (pass === undefined) return 'NotOnePass';
  const pod = view.current();
  const ended = pod && sandboxContainer(pod);
  const doubt = doubtOf({ ...following, pass, ended, position: writer.position, direct: writer.direct });
  if (doubt !== undefined) return doubt;
  await pass.finish();
  const assessed = await assess(options, { pass, contradicted: [], failure: undefined, neverStarted: false });
  // Else a second reading may find what is missing: an artifact that had no room, or was not taken.
  return assessed.result.complete ? assessed : 'NotComplete';
}

async function assess(options: FinalOptions, reading: Reading): Promise<Assessed> {
  const facts = await gatherFacts(options, reading);
  return { reading, facts, result: completeness(facts) };
}

/** In turn if the file store has to be asked. */
async function close({ context, view, signal }: FinalOptions, input: FinishCapture): Promise<FinishCaptureOutcome> {
  const rules = artifactRules(context);
  if (!input.artifacts.some(({ complete }) => complete)) return await context.captures.finish(input, rules);
  return await context.closings.run(view.claim.createdAt, signal, () => context.captures.finish(input, rules));
}

function totalBytes(position: CapturePosition): number {
  return position.streams.stdout.bytes + position.streams.stderr.bytes;
}

async function gatherFacts(
  { context, writer, view, followed, signal }: FinalOptions,
  reading: Reading,
): Promise<CaptureFacts> {
  // Only where something is missing is it asked where.
  const whole = writer.position.missing.length === 0;
  const chunks = whole ? [] : await context.database.persist(() => context.claims.chunks(view.claim), signal);
  const best = bestPass(reading.pass, followed);
  return {
    position: writer.position,
    chunks,
    summary: best?.summary,
    summarySeq: best?.summarySeq ?? 0,
    contradicted: reading.contradicted,
    failure: reading.failure,
    neverStarted: reading.neverStarted,
    artifactsComplete: (logComplete) => best?.artifactsComplete(logComplete) ?? logComplete,
  };
}

/** The final reading, unless the log was already gone and following had seen more. */
function bestPass(final: LogPass | undefined, followed: LogPass | undefined): LogPass | undefined {
  if (final === undefined || followed === undefined) return final ?? followed;
  return followed.sequence.lastSeq > final.sequence.lastSeq ? followed : final;
}

function finishInput(
  options: FinalOptions,
  reading: Reading,
  facts: CaptureFacts,
  result: Completeness,
): FinishCapture {
  const { view, context, writer, followed } = options;
  const best = bestPass(reading.pass, followed);
  const { evaluationUid, attempt, podUid } = view.claim;
  return {
    evaluationUid,
    attempt,
    podUid,
    recorder: context.claims.recorder(),
    lastSeq: writer.position.lastSeq,
    streams: streamLedgers(facts, result.output),
    artifacts: best?.artifacts ?? [],
    artifactsComplete: result.artifacts,
    summary: facts.summary ?? null,
    receipt: reading.pass?.receipt ?? followed?.receipt ?? null,
    complete: result.complete,
    reason: result.reason,
  };
}

/** Readings of an ended log until one ends with the summary, or two find the same. */
async function readEnded(options: FinalOptions): Promise<Reading> {
  const { context, view, signal } = options;
  const nothing = { pass: undefined, contradicted: [], neverStarted: false };
  let previousBytes = -1;
  for (let readings = 1; ; readings += 1) {
    const pod = view.current();
    if (pod === undefined) return { ...nothing, failure: 'PodGone' };
    const state = logState(pod);
    if (state.kind === 'neverStarted') return { ...nothing, failure: undefined, neverStarted: true };
    const reading = await readOnce(options);
    const { pass } = reading;
    const unread = options.writer.position.lastSeq === 0;
    if (reading.failure === 'LogUnavailable' && state.kind === 'ended' && state.doubtful && unread) {
      return { ...nothing, failure: undefined, neverStarted: true };
    }
    if (pass === undefined || reading.failure !== undefined || readings === MAX_READINGS) return reading;
    const { bytes } = pass.decoder.stats;
    if (pass.endsWithSummary || bytes === previousBytes) return reading;
    previousBytes = bytes;
    await sleep(context.clock, context.patience.settleMs, signal);
    signal.throwIfAborted();
  }
}

async function readOnce(options: FinalOptions): Promise<Reading> {
  const { context, view, signal, logger } = options;
  const { clock, patience, metrics } = context;
  const deadline = clock.monotonic() + patience.unreachableMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await context.finals.run(view.claim.createdAt, signal, () => readAndCompare(options));
    } catch (error) {
      signal.throwIfAborted();
      const failure = readFailure(error, view);
      if (failure !== undefined) return { pass: undefined, contradicted: [], failure, neverStarted: false };
      if (!(error instanceof KubeError)) throw error;
      metrics.reads.inc({ read: 'final', end: 'cut' });
      if (clock.monotonic() > deadline)
        return { pass: undefined, contradicted: [], failure: 'NodeUnreachable', neverStarted: false };
      logger.warn({ pod: view.claim.name, code: error.code, reason: error.reason }, 'final read failed; trying again');
    }
    await sleep(
      clock,
      Math.min(patience.reconnectMaxMs, patience.reconnectBaseMs * 2 ** Math.min(attempt, 10)),
      signal,
    );
  }
}

/** What an error says for good; undefined when it is worth another try. */
function readFailure(error: unknown, view: PodView): ReadFailure | undefined {
  if (!(error instanceof KubeError) || isAborted(error)) return undefined;
  if (view.current() === undefined || isNotFound(error)) return 'PodGone';
  // 400: the kubelet knows the pod and has no such container, or its log is not there any more.
  return isTransient(error) || error.code === 401 || error.code === 403 ? undefined : 'LogUnavailable';
}

async function readAndCompare({ context, view, writer, signal }: FinalOptions): Promise<Reading> {
  // A reading before this one may have been cut with its frames on their way: chunks and position must tell of the same moment.
  await writer.settle();
  const chunks = await context.database.persist(() => context.claims.chunks(view.claim), signal);
  const pass = new LogPass(passOptions(context, view.claim.evaluationUid));
  const final = new FinalRead({
    key: view.claim,
    recorder: context.claims.recorder,
    pass,
    writer,
    chunks,
    captures: context.captures,
  });
  const { namespace, name } = view.claim;
  const stream = await context.logs.podLog(namespace, name, { container: SANDBOX_CONTAINER, signal });
  const end = await pass.read(
    stream,
    (frame) => final.take(frame),
    () => final.relieve(),
  );
  await pass.finish();
  const contradicted = await final.finish();
  context.metrics.reads.inc({ read: 'final', end });
  const failure = pass.kubeletLostLog ? 'LogUnavailable' : end === 'flood' ? 'LogFlooded' : undefined;
  return { pass, contradicted, failure, neverStarted: false };
}
