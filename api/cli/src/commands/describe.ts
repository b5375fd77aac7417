import type { Attempt, CompleteEvaluation, Evaluation } from '@crucible/client';
import { connect, printJson, type Command, type OutputOption } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';
import { bytes, counted, duration, table, visibleLine } from '../text.ts';
import { secondsOf } from './run.ts';

/** All that is known of one run, its output aside. */
export const describe: Command<OutputOption> = async (tools, [reference = ''], { output }) => {
  const { client, namespace } = await connect(tools);
  const complete = await client.complete(await findId(client, reference, namespace, tools.signal), {
    signal: tools.signal,
  });
  if (output === 'json') printJson(tools.stdout, complete);
  else tools.stdout.line(description(complete));
  return EXIT.succeeded;
};

function description({ evaluation, timeline, storage_locations: locations }: CompleteEvaluation): string {
  return [
    ...head(evaluation),
    ...evaluation.attempts.flatMap(attemptLines),
    'Stored:',
    indent(
      table(
        locations.map(({ backend, holds, attempt, items, bytes: size, location, path }) => [
          backend,
          holds,
          attempt === null ? '' : `attempt ${attempt}`,
          `${items}`,
          bytes(size),
          path ?? location,
        ]),
      ),
    ),
    'Timeline:',
    indent(table(timeline.map(({ at, source, kubernetesEvent, message }) => [at, kubernetesEvent == null ? source : 'kubernetes', message]))),
  ].join('\n');
}

function head(evaluation: Evaluation): string[] {
  const { verdict, passed, passedReason, passedMessage, queueReason, queueMessage } = evaluation;
  const lines: [string, string | null][] = [
    ['Name', evaluation.name],
    ['Namespace', evaluation.namespace],
    ['UID', evaluation.uid],
    [
      'Labels',
      Object.entries(evaluation.labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(' '),
    ],
    ['Submitted by', evaluation.submittedBy],
    ['Phase', evaluation.phase],
    ['Waits for', queueReason === null ? null : [queueReason, queueMessage].filter((text) => text !== null).join(': ')],
    ['Verdict', verdict === null ? null : `${verdict.class}: ${verdict.message ?? ''}`],
    ['By', verdict?.attributableTo ?? null],
    ['Confidence', verdict?.confidence ?? null],
    [
      'Passed',
      passed === null ? null : `${passed}: ${[passedReason, passedMessage].filter((text) => text !== null).join(': ')}`,
    ],
    ['Created', evaluation.createdAt],
    ['Finished', evaluation.finishedAt],
  ];
  const evidence = (verdict?.evidence ?? []).map((item) => `  ${visibleLine(evidenceText(item))}`);
  return [...fields(lines), ...(evidence.length > 0 ? ['Evidence:', ...evidence] : [])];
}

/** Stored JSON that older versions wrote may look different: then it is shown as it is. */
function evidenceText(item: unknown): string {
  const { source, detail } = (item ?? {}) as { source?: unknown; detail?: unknown };
  return typeof source === 'string' && typeof detail === 'string' ? `${source}: ${detail}` : JSON.stringify(item);
}

function attemptLines(attempt: Attempt): string[] {
  const seconds = secondsOf(attempt);
  const { capture, signal, exitCode } = attempt;
  const lines: [string, string | null][] = [
    ['State', attempt.state],
    ['Job', attempt.jobName],
    ['Pod', attempt.podName],
    ['Node', attempt.node],
    ['RuntimeClass', attempt.runtimeClass],
    ['Image', attempt.imageDigest ?? attempt.image],
    ['Ended', signal === null ? (exitCode === null ? null : `exit code ${exitCode}`) : `signal ${signal}`],
    ['Ran for', seconds === undefined ? null : duration(seconds)],
    ['Verdict', attempt.verdict?.class ?? null],
    ['Contained', contained(attempt.receipt)],
    [
      'Captured',
      capture === null
        ? 'nothing'
        : capture.complete === true
          ? 'complete'
          : `${capture.state}${capture.reason === null ? '' : `: ${capture.reason}`}`,
    ],
    ...(['stdout', 'stderr'] as const).map((stream): [string, string | null] => [
      stream,
      capture === null ? null : ledger(capture.streams[stream]),
    ]),
    [
      'Artifacts',
      capture === null
        ? null
        : `${capture.artifacts.count}, ${bytes(capture.artifacts.bytes)}, ${capture.artifacts.refused} refused`,
    ],
  ];
  return [`Attempt ${attempt.number}:`, ...fields(lines).map((line) => `  ${line}`)];
}

/** As the condition of that name says it; null before there is a receipt. */
export function contained(receipt: unknown): string | null {
  if (typeof receipt !== 'object' || receipt === null) return null;
  const { sandbox, mismatches, acceptedRisks } = receipt as Record<'sandbox' | 'mismatches' | 'acceptedRisks', unknown>;
  if (sandbox === null) return 'Unknown: no measurement arrived';
  const rules = Array.isArray(mismatches) ? mismatches.map((each) => String((each as { rule?: unknown }).rule)) : [];
  if (rules.length > 0) return `False: measured otherwise than it should be: ${[...new Set(rules)].join(', ')}`;
  return Array.isArray(acceptedRisks) && acceptedRisks.length > 0 ? 'True, with accepted risks' : 'True: as measured';
}

type Ledger = NonNullable<Attempt['capture']>['streams']['stdout'];

function ledger({ bytes: size, lines, gaps, truncated, complete, sha256 }: Ledger): string {
  const missing = gaps.map(
    ({ fromSeq, toSeq, afterByte }) => `lines ${fromSeq}–${toSeq} after byte ${afterByte} are missing`,
  );
  return [
    `${bytes(size)}, ${counted(lines, 'line')}`,
    complete ? 'complete' : 'incomplete',
    ...(truncated ? ['cut off at its limit'] : []),
    ...missing,
    ...(sha256 === null ? [] : [`sha256 ${sha256}`]),
  ].join(', ');
}

function fields(lines: readonly (readonly [string, string | null])[]): string[] {
  const present = lines.filter(([, value]) => value !== null && value !== '');
  const width = Math.max(0, ...present.map(([name]) => name.length)) + 2;
  return present.map(([name, value]) => `${`${name}:`.padEnd(width)}${visibleLine(value ?? '')}`);
}

const indent = (text: string): string =>
  text
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
