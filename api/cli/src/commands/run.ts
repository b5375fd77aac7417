import type { Attempt, Evaluation, EvaluationStatus, OutputStream } from '@crucible/client';
import { connect, printJson, type Command, type OutputOption, type Tools } from '../command.ts';
import { EXIT, exitCodeOf } from '../exit-codes.ts';
import { buildSubmission, type SubmissionOptions } from '../submission.ts';
import { bytes, counted, duration, visibleLine } from '../text.ts';
import { watch, type Watcher } from '../watch.ts';

export interface RunOptions extends SubmissionOptions, OutputOption {
  readonly detach?: boolean;
  readonly quiet?: boolean;
}

/** Submits, shows what becomes of it, and ends with the exit code of its verdict. */
export const run: Command<RunOptions> = async (tools, [file = '', ...args], { detach, quiet, output, ...options }) => {
  const { client, namespace } = await connect(tools);
  const place = { namespace, explicit: tools.options.namespace !== undefined };
  const accepted = await client.submit(buildSubmission(file, args, options, place), { signal: tools.signal });
  const where = `-n ${accepted.namespace} ${accepted.name}`;
  if (detach) {
    if (output === 'json') printJson(tools.stdout, accepted);
    else
      tools.stdout.line(
        output === 'name'
          ? `evaluation.crucible.dev/${accepted.name}`
          : `evaluation ${accepted.namespace}/${accepted.name} submitted; \`kubectl crucible logs -f ${where}\` follows it`,
      );
    return EXIT.succeeded;
  }
  const json = output === 'json';
  const say = (text: string): void => (quiet ? undefined : tools.stderr.line(text));
  say(`evaluation ${accepted.namespace}/${accepted.name} submitted`);
  try {
    const streams: OutputStream[] = json ? [] : ['stdout', 'stderr'];
    const evaluation = await watch(client, accepted.id, new Progress(tools, say), { streams, signal: tools.signal });
    if (json) printJson(tools.stdout, evaluation);
    for (const line of ending(evaluation)) say(line);
    return exitCodeOf(evaluation);
  } catch (error) {
    if (tools.signal.aborted)
      tools.stderr.line(
        `it goes on without you: \`kubectl crucible logs -f ${where}\` follows it, \`kubectl crucible cancel ${where}\` ends it`,
      );
    throw error;
  }
};

export class Progress implements Watcher {
  readonly #tools: Tools;
  readonly #say: (text: string) => void;

  constructor(tools: Tools, say: (text: string) => void) {
    this.#tools = tools;
    this.#say = say;
  }

  phase(phase: string, status: EvaluationStatus | undefined): void {
    if (['Succeeded', 'Failed', 'Cancelled'].includes(phase)) return;
    const { queuePosition = null, queueReason = null, queueMessage = null } = status ?? {};
    const details =
      phase === 'Queued'
        ? [queueReason, queuePosition === null ? null : `position ${queuePosition}`, queueMessage]
        : [];
    this.#say(
      [
        visibleLine(phase.toLowerCase()),
        ...details.filter((detail) => detail !== null).map((detail) => visibleLine(detail)),
      ]
        .join(': ')
        .replace(/: (position \d+)/, ', $1'),
    );
  }

  attempt({ number }: Attempt): void {
    this.#say(`attempt ${number}: the one before it was not what the run is judged by`);
  }

  async output(stream: OutputStream, attempt: number, data: Uint8Array): Promise<void> {
    await this.#printer(stream).output(`${stream}/${attempt}`, data);
  }

  outputEnd(stream: OutputStream, attempt: number): void {
    this.#printer(stream).endOutput(`${stream}/${attempt}`);
  }

  #printer(stream: OutputStream) {
    return stream === 'stdout' ? this.#tools.stdout : this.#tools.stderr;
  }
}

/** The verdict, what is missing, and what there is to fetch. */
export function ending(evaluation: Evaluation): string[] {
  const { verdict, passed, passedReason, passedMessage, attempts, acceptedAttempt, namespace, name } = evaluation;
  const attempt = attempts.find(({ number }) => number === acceptedAttempt) ?? attempts.at(-1);
  const lines = [`${verdict?.class ?? 'no verdict'}${blame(evaluation)}: ${visibleLine(verdict?.message ?? '')}`];
  if (passed !== null)
    lines.push(
      passed
        ? 'passed: everything that was expected holds'
        : `not passed: ${visibleLine([passedReason, passedMessage].filter((text) => text !== null).join(': '))}`,
    );
  const seconds = secondsOf(attempt);
  const capture = attempt?.capture ?? null;
  if (attempt !== undefined && capture === null)
    lines.push(attempt.startedAt === null ? 'no output: its pod never ran' : 'no output: its pod was gone before anything of it was read');
  else if (capture !== null && capture.complete !== true)
    lines.push(
      `output incomplete: ${visibleLine(capture.reason ?? 'the capture did not finish')}; \`kubectl crucible describe ${name} -n ${namespace}\` says what is missing`,
    );
  const truncated = (['stdout', 'stderr'] as const).filter((stream) => capture?.streams[stream].truncated);
  if (truncated.length > 0) lines.push(`output cut off at its limit: ${truncated.join(', ')}`);
  if (seconds !== undefined) lines[0] += ` (${duration(seconds)})`;
  const { count = 0, bytes: size = 0, refused = 0 } = capture?.artifacts ?? {};
  const where = `${name} -n ${namespace}`;
  if (count > 0)
    lines.push(
      `${counted(count, 'artifact')}, ${bytes(size)}${refused > 0 ? `, ${refused} refused` : ''}: \`kubectl crucible artifacts download ${where}\``,
    );
  else if (refused > 0)
    lines.push(`no artifacts, ${refused} refused: \`kubectl crucible artifacts list ${where}\` says why`);
  return lines;
}

const blame = ({ verdict }: Evaluation): string =>
  verdict?.attributableTo === undefined
    ? ''
    : `, by ${verdict.attributableTo}${verdict.confidence === 'Probable' ? ' (probable)' : ''}`;

export function secondsOf(attempt: Pick<Attempt, 'startedAt' | 'finishedAt'> | undefined): number | undefined {
  if (attempt?.startedAt == null || attempt.finishedAt === null) return undefined;
  return (Date.parse(attempt.finishedAt) - Date.parse(attempt.startedAt)) / 1000;
}
