import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import * as z from 'zod';
import { sleep, systemClock } from '../kube/clock.ts';
import type { Target } from './canary.ts';
import { LIBRARY, TARGETS_EXPRESSION, TARGETS_FILE } from './canary.ts';
import type { AskControl } from './control.ts';
import type { DrillRunner, Started } from './runner.ts';

// Enforcement can be lost without any change in the API server: an agent on a node dies and somebody flushes its rules.
// So one sandbox of each class in use stays, tries its addresses every few seconds, and says so when one answers. It
// decides nothing: a drill does, which is run at once.

const EVERY_SECONDS = 5;
const LIFE_SECONDS = 4 * 3600;
const POLL_MS = 3000;
/** Before a new one is tried, when one could not be started or has ended at once. */
const PAUSE_MS = 30_000;
const START_MS = 90_000;
/** A listener that was restarted has another address; then another sentinel tries that. */
const REFRESH_MS = 60_000;

export const SENTINEL_PROGRAM = `${LIBRARY}
targets, beats = ${TARGETS_EXPRESSION}, 0
while True:
    answered = sorted(result['check'] for _, result in reach_all(targets, 2) if result['blocked'] is False)
    if answered or beats % 12 == 0: print(json.dumps({'beat': beats, 'answered': answered[:8]}), flush=True)
    beats += 1
    time.sleep(${EVERY_SECONDS})
`;

const beat = z.object({ beat: z.int().min(0), answered: z.array(z.string().max(128)).max(8) });

/** The newest word of a sentinel that something answered it, if that is newer than `after`. Hostile text. */
export function newestAnswer(stdout: string, after: number): z.infer<typeof beat> | undefined {
  for (const line of stdout.slice(-8192).split('\n').reverse()) {
    let parsed;
    try {
      parsed = beat.safeParse(JSON.parse(line));
    } catch {
      continue;
    }
    if (parsed.success && parsed.data.answered.length > 0) return parsed.data.beat > after ? parsed.data : undefined;
  }
  return undefined;
}

export interface SentinelOptions {
  readonly runtimeClass: string | undefined;
  readonly runner: DrillRunner;
  readonly askControl: AskControl;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly now: () => number;
  /** Whether it is still this runtime that the class means. */
  readonly wanted: () => boolean;
  /** Something answered a sandbox. */
  readonly onAnswer: (addresses: readonly string[]) => void;
}

/** Keeps one sentinel of a class alive for as long as it is wanted. Never throws. */
export async function keepSentinel(options: SentinelOptions): Promise<void> {
  const { signal, logger } = options;
  while (!signal.aborted && options.wanted()) {
    const begun = options.now();
    try {
      await watchOne(options);
    } catch (error) {
      if (!signal.aborted) logger.warn({ err: error }, 'the sentinel of the drill could not be kept');
    }
    if (options.now() - begun < PAUSE_MS) await sleep(systemClock, PAUSE_MS, signal);
  }
}

async function watchOne(options: SentinelOptions): Promise<void> {
  const { runtimeClass, runner, askControl, signal, logger, onAnswer, now } = options;
  const control = await askControl(signal);
  if (!('targets' in control)) return void logger.warn({ problem: control.problem }, 'no sentinel: nothing tells what it should try');
  const targets: readonly Target[] = control.targets.filter(({ group }) => group !== 'metadata');
  if (targets.length === 0) return void logger.warn('no sentinel: nothing answers the control pod');
  const spec = { code: SENTINEL_PROGRAM, timeoutSeconds: LIFE_SECONDS, memory: '64Mi' };
  const files = [{ path: TARGETS_FILE, content: JSON.stringify(targets) }];
  const sentinel: Started = await runner.start(randomUUID(), 'sentinel', spec, runtimeClass, files, signal);
  try {
    if ((await runner.address(sentinel, now() + START_MS, signal)).address === undefined) return;
    let heard = -1;
    let asked = now();
    while (!signal.aborted && options.wanted() && !runner.isOver(sentinel)) {
      const answer = newestAnswer(await runner.printed(sentinel), heard);
      if (answer !== undefined) {
        heard = answer.beat;
        logger.error({ addresses: answer.answered }, 'a sandbox was answered: it is drilled at once');
        onAnswer(answer.answered);
      }
      await sleep(systemClock, POLL_MS, signal);
      if (now() - asked < REFRESH_MS) continue;
      asked = now();
      // A control that does not answer changes nothing: what it told before is still tried.
      const fresh = await askControl(signal);
      if ('targets' in fresh && !sameTargets(targets, fresh.targets)) return;
    }
  } finally {
    await runner.remove([sentinel]);
  }
}

/** Whether it still tries everything that answers the control. Fewer now (a server that restarts) is no reason. Pure. */
export function sameTargets(tried: readonly Target[], answering: readonly Target[]): boolean {
  const names = new Set(tried.map(({ name }) => name));
  return answering.every(({ name, group }) => group === 'metadata' || names.has(name));
}
