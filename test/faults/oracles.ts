import { createHash } from 'node:crypto';
import { CAPTURE_FINALIZER, LABELS } from '@crucible/crds';
import { FrameDecoder } from '../../operator/src/recorder/frames.ts';
import type { Script } from './node.ts';
import { expectedOutput, scriptOf, sha256 } from './scenario.ts';
import type { Part } from './scenario.ts';
import type { Json, RecordedRun, StartedContainer, StoredCapture, StoredStream, WorldState } from './state.ts';

// What must hold after every fault, as pure functions over what was read. Each returns what is wrong, in words.

export type Breach = string;

/** (a) At most one accepted attempt per evaluation, and each attempt's output is one pod's. */
export function oneAcceptedAttempt({ runs }: WorldState): Breach[] {
  return runs.flatMap((run) => {
    const accepted = run.events.filter(({ type }) => type === 'attempt.accepted').map(({ data }) => data['number'] ?? data['attempt']);
    const breaches: Breach[] = [];
    if (accepted.length > 1) breaches.push(`${run.name}: ${accepted.length} attempts were accepted`);
    if ((accepted.length === 1) !== (run.acceptedAttempt !== null))
      breaches.push(`${run.name}: the events and the row disagree about the accepted attempt`);
    const attempt = run.attempts.find(({ number }) => number === run.acceptedAttempt);
    if (run.acceptedAttempt !== null && attempt?.state !== 'finalized')
      breaches.push(`${run.name}: accepted attempt ${run.acceptedAttempt} is not final`);
    for (const capture of run.captures) {
      const pod = run.attempts.find(({ number }) => number === capture.attempt)?.podUid;
      if (pod != null && pod !== capture.podUid)
        breaches.push(`${run.name}: attempt ${capture.attempt} has the output of another pod`);
    }
    return breaches;
  });
}

/** (b) Every finished run has a verdict and a ledger that verifies, or says what is missing. */
export function verdictAndLedger({ runs, evaluations, ran = () => true, started = [] }: WorldState, parts: readonly Part[]): Breach[] {
  const unsaid = evaluations
    .filter((evaluation) => isFinished(evaluation) && evaluation['status'].verdict?.class === undefined)
    .map(({ metadata }) => `${metadata.name}: finished without a verdict in its status`);
  return [
    ...unsaid,
    ...started.flatMap((container) => unheard(container, runs, evaluations)),
    ...runs.flatMap((run) => (run.finishedAt === null ? [] : ledgerBreaches(run, parts.find(({ name }) => name === run.name), ran))),
  ];
}

/**
 * What ran has a capture, or nobody says that it ended, or that there is no more output than is stored. Kubernetes may start a
 * program twice for one Job: then the attempt has the output of one of both.
 */
function unheard({ evaluationUid, attempt }: StartedContainer, runs: readonly RecordedRun[], evaluations: readonly Json[]): Breach[] {
  const run = runs.find(({ uid }) => uid === evaluationUid);
  if (run === undefined || run.finishedAt === null || run.captures.some((capture) => capture.attempt === attempt)) return [];
  const live = evaluations.find(({ metadata }) => metadata.uid === evaluationUid);
  const said = (live?.['status']?.conditions ?? []).find(({ type }: Json) => type === 'Captured')?.status;
  const ended = run.attempts.find(({ number }) => number === attempt)?.exitCode ?? null;
  if (said !== 'True' && ended === null) return [];
  return [`${run.name}, attempt ${attempt}: a container ran, and nothing says what became of its output`];
}

function ledgerBreaches(run: RecordedRun, part: Part | undefined, ran: (podUid: string) => boolean): Breach[] {
  const breaches: Breach[] = [];
  if (typeof run.verdict?.['class'] !== 'string') breaches.push(`${run.name}: finished without a verdict`);
  for (const attempt of run.attempts) {
    const what = `${run.name}, attempt ${attempt.number}`;
    if (attempt.state !== 'finalized') breaches.push(`${what}: the run is finished and the attempt is ${attempt.state}`);
    const capture = run.captures.find((candidate) => candidate.attempt === attempt.number);
    if (capture === undefined) {
      if (attempt.startedAt !== null) breaches.push(`${what}: it was started, and nothing says what became of its output`);
      continue;
    }
    if (capture.state !== 'captured') breaches.push(`${what}: finished while its capture is ${capture.state}`);
    if (capture.complete === false && (capture.reason ?? '') === '')
      breaches.push(`${what}: incomplete, and nothing says why`);
    const streams = run.streams.filter((stream) => stream.attempt === attempt.number);
    if (streams.length !== 2) breaches.push(`${what}: ${streams.length} streams have a ledger`);
    for (const { stream, bytes, sha256: sum, found } of streams) {
      if (bytes !== found.bytes || sum !== found.sha256 || !found.joins)
        breaches.push(`${what}: the ledger of ${stream} says ${bytes} bytes, ${sum}; stored are ${found.bytes}, ${found.sha256}`);
    }
    if (!ran(capture.podUid)) {
      if (streams.some(({ found }) => found.bytes > 0)) breaches.push(`${what}: it has output and never ran`);
    } else if (part !== undefined && capture.complete === true) breaches.push(...outputBreaches(what, run, attempt.number, part));
    else if (part !== undefined) breaches.push(...partBreaches(what, streams, capture, scriptOf([part], part.name, attempt.number)!));
  }
  return breaches;
}

/** "Complete" means: what the program wrote. */
function outputBreaches(what: string, run: RecordedRun, attempt: number, part: Part): Breach[] {
  const breaches: Breach[] = [];
  const expected = expectedOutput(part);
  for (const { stream, found } of run.streams.filter((candidate) => candidate.attempt === attempt)) {
    if (found.sha256 !== expected[stream].sha256)
      breaches.push(`${what}: ${stream} is called complete with ${found.bytes} of ${expected[stream].bytes} bytes, or others`);
  }
  for (const { path, data } of part.files) {
    const stored = run.artifacts.find((artifact) => artifact.attempt === attempt && artifact.path === path);
    if (stored === undefined || !stored.complete || stored.found !== sha256(data))
      breaches.push(`${what}: artifact ${path} is not stored as it was`);
  }
  return breaches;
}

/** Incomplete means: what the program wrote, but for the lines that are named, and perhaps its end. */
function partBreaches(what: string, streams: readonly StoredStream[], { missing }: StoredCapture, script: Script): Breach[] {
  const gaps = [...missing.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) => [Number(from), Number(to)] as const);
  const frames = [...new FrameDecoder().push(Buffer.concat(script.lines))].filter(
    ({ seq }) => !gaps.some(([from, to]) => seq >= from && seq < to),
  );
  return streams.flatMap(({ stream, found }) => {
    const hash = createHash('sha256');
    let bytes = 0;
    for (const { text, newline } of frames.filter(({ kind }) => kind === stream)) {
      if (bytes >= found.bytes) break;
      hash.update(text).update(newline ? '\n' : '');
      bytes += text.length + (newline ? 1 : 0);
    }
    if (bytes === found.bytes && hash.digest('hex') === found.sha256) return [];
    return [`${what}: ${stream} is not what the program wrote but for the lines ${missing}, as far as it goes: ${found.bytes} bytes`];
  });
}

/** (c) No orphan: no Job, pod finalizer, code or own finalizer that nothing will ever remove. */
export function noOrphans({ evaluations, jobs, pods, configMaps }: WorldState): Breach[] {
  const living = new Map(evaluations.map((evaluation) => [evaluation['metadata'].uid as string, evaluation]));
  const finalizers = (object: Json): string[] => object['metadata'].finalizers ?? [];
  const owner = (object: Json): Json | undefined => living.get(object['metadata'].labels[LABELS.evaluationUid]);
  const over = (object: Json): boolean => owner(object) === undefined || isFinished(owner(object)!);
  const breaches: Breach[] = [];
  for (const evaluation of evaluations) {
    const { name, deletionTimestamp } = evaluation['metadata'];
    if (isFinished(evaluation) && finalizers(evaluation).includes(CAPTURE_FINALIZER))
      breaches.push(`evaluation ${name} is finished and keeps its finalizer`);
    if (deletionTimestamp !== undefined) breaches.push(`evaluation ${name} is deleted and does not go`);
  }
  for (const job of jobs.filter(over)) {
    const owned = (job['metadata'].ownerReferences ?? []).some((reference: Json) => living.has(reference['uid']));
    if (!owned) breaches.push(`job ${job['metadata'].name} belongs to nobody`);
    if (job['metadata'].deletionTimestamp !== undefined) breaches.push(`job ${job['metadata'].name} is deleted and does not go`);
  }
  for (const pod of pods.filter(over)) {
    const { name, deletionTimestamp } = pod['metadata'];
    if (finalizers(pod).includes(CAPTURE_FINALIZER)) breaches.push(`pod ${name} keeps its finalizer`);
    if (owner(pod) === undefined) breaches.push(`pod ${name} belongs to nobody`);
    else if (deletionTimestamp !== undefined) breaches.push(`pod ${name} is deleted and does not go`);
  }
  for (const configMap of configMaps) {
    if (owner(configMap) === undefined) breaches.push(`config map ${configMap['metadata'].name} belongs to nobody`);
  }
  return breaches;
}

/** Writes of our processes to the API server (Leases aside) and to Postgres. */
export interface Writes {
  readonly calls: readonly string[];
  readonly commits: readonly string[];
}

/** (d) Everything is finished, or gone … */
export function converged({ runs, evaluations }: WorldState, parts: readonly Part[]): Breach[] {
  const unfinished = runs.filter(({ finishedAt }) => finishedAt === null).map(({ name }) => `${name} is not finished in the record`);
  const waiting = evaluations
    .filter((evaluation) => !isFinished(evaluation))
    .map((evaluation) => `${evaluation['metadata'].name} is ${evaluation['status']?.phase ?? 'not looked at'}`);
  const lost = parts
    .filter(({ name }) => !runs.some((run) => run.name === name))
    .map(({ name }) => `${name} is not in the record`);
  return [...unfinished, ...waiting, ...lost];
}

/** … and then nobody writes any more. */
export function quiet({ calls, commits }: Writes): Breach[] {
  return [
    ...calls.map((call) => `wrote after everything was finished: ${call}`),
    ...commits.map((commit) => `committed after everything was finished: ${commit}`),
  ];
}

const ONCE = ['evaluation.accepted', 'evaluation.finished'];
const ONCE_PER_ATTEMPT = ['attempt.created', 'attempt.finalized', 'capture.finished'];

/** (e) Each run's events are numbered without a gap, and what happens once is told once. */
export function gaplessEvents({ runs }: WorldState): Breach[] {
  return runs.flatMap(({ name, events, eventSeq, attempts }) => {
    const breaches: Breach[] = [];
    if (events.some(({ seq }, index) => seq !== index + 1) || events.length !== eventSeq)
      breaches.push(`${name}: events are numbered ${events.map(({ seq }) => seq).join(',')}, the row says ${eventSeq}`);
    const count = (type: string): number => events.filter((event) => event.type === type).length;
    for (const type of ONCE) if (count(type) > 1) breaches.push(`${name}: ${type} ${count(type)} times`);
    for (const type of ONCE_PER_ATTEMPT)
      if (count(type) > attempts.length) breaches.push(`${name}: ${type} ${count(type)} times in ${attempts.length} attempts`);
    return breaches;
  });
}

/** (f) The end state, without what differs between any two runs: names, uids, times. */
export function endState({ runs, evaluations }: WorldState): Record<string, unknown> {
  const ends = runs.map((run) => {
    const live = evaluations.find(({ metadata }) => metadata.uid === run.uid);
    const record = {
      phase: run.phase,
      verdict: told(run.verdict),
      acceptedAttempt: run.acceptedAttempt,
      attempts: run.attempts.map(({ number, state, exitCode, signal, verdict }) => ({
        number,
        state,
        exitCode,
        signal,
        verdict: told(verdict),
      })),
      captures: run.captures.map(({ attempt, complete, reason, missing }) => ({ attempt, complete, reason, missing })),
      streams: run.streams.map(({ attempt, stream, bytes, sha256: sum, complete }) => ({ attempt, stream, bytes, sum, complete })),
      artifacts: run.artifacts.map(({ attempt, path, size, sha256: sum, complete }) => ({ attempt, path, size, sum, complete })),
    };
    return [run.name, { record, status: live === undefined ? 'gone' : statusEnd(live['status']) }];
  });
  return Object.fromEntries(ends) as Record<string, unknown>;
}

export function sameEnd(state: WorldState, reference: Record<string, unknown>): Breach[] {
  const end = endState(state);
  const names = [...new Set([...Object.keys(end), ...Object.keys(reference)])];
  return names
    .filter((name) => JSON.stringify(end[name]) !== JSON.stringify(reference[name]))
    .map((name) => `${name} ended otherwise: ${JSON.stringify(end[name])} instead of ${JSON.stringify(reference[name])}`);
}

function statusEnd(status: Json): object {
  return {
    phase: status['phase'],
    conditions: (status['conditions'] as Json[])
      .map(({ type, status: value, reason, message }) => `${type}=${value} ${reason}: ${message}`)
      .sort(),
    verdict: told(status['verdict']),
    attempts: (status['attempts'] as Json[] | undefined)?.map(({ number, exitCode, signal, verdict }) => ({
      number,
      exitCode,
      signal,
      verdict: told(verdict),
    })),
    output: status['output'],
    artifacts: status['artifacts'],
  };
}

/** A verdict without its evidence, which quotes times and names. */
function told(verdict: Json | null | undefined): unknown {
  if (verdict == null) return null;
  return typeof verdict === 'string' ? verdict : { class: verdict['class'], by: verdict['attributableTo'], message: verdict['message'] };
}

function isFinished(evaluation: Json): boolean {
  return (evaluation['status']?.conditions ?? []).some(
    (condition: Json) => condition['type'] === 'Finished' && condition['status'] === 'True',
  );
}

/** (a), (b), (c), (e) and the first half of (d): what can be said of one state alone. */
export function standing(state: WorldState, parts: readonly Part[]): Breach[] {
  return [
    ...oneAcceptedAttempt(state).map((breach) => `(a) ${breach}`),
    ...verdictAndLedger(state, parts).map((breach) => `(b) ${breach}`),
    ...noOrphans(state).map((breach) => `(c) ${breach}`),
    ...converged(state, parts).map((breach) => `(d) ${breach}`),
    ...gaplessEvents(state).map((breach) => `(e) ${breach}`),
  ];
}
