import type { Expectation } from '@crucible/crds';
import { clip } from '@crucible/crds';
import { RE2JS } from 're2js';

/** Whether a run passed, and which expectation was missed first. */
export interface Score {
  readonly passed: boolean;
  readonly reason: string;
  readonly message: string;
}

export type StdoutExpectation = NonNullable<Expectation['stdout']>;

/** What the end alone tells, without reading any output; undefined when the output decides. */
export function scoreEnd(expected: Expectation, exitCode: number | undefined, storedWhole: boolean): Score | undefined {
  const wantedExit = expected.exitCode ?? 0;
  if (exitCode === undefined) return miss('NoExitCode', 'The code did not run to an end of its own.');
  if (exitCode !== wantedExit) return miss('ExitCode', `Expected exit code ${wantedExit}, got ${exitCode}.`);
  if (expected.stdout === undefined) return AS_EXPECTED;
  return storedWhole ? undefined : miss('OutputIncomplete', 'stdout was not stored whole, so it cannot be compared.');
}

/**
 * Judges stored output, outside of the sandbox. The output is hostile: JSON is only parsed line by line from the end, and
 * nothing of it gets into a message. Only for a thread that may be ended: RE2 needs no exponential time, but the size of
 * the pattern times that of the output is minutes all the same.
 */
export function scoreOutput(expected: StdoutExpectation, stdout: Uint8Array): Score {
  return compare(expected, new TextDecoder('utf-8').decode(stdout)) ?? AS_EXPECTED;
}

const AS_EXPECTED: Score = { passed: true, reason: 'AsExpected', message: 'Everything in spec.expect holds.' };

function miss(reason: string, message: string): Score {
  return { passed: false, reason, message };
}

function compare(expected: StdoutExpectation, stdout: string): Score | undefined {
  const quote = (text: string): string => JSON.stringify(clip(text, 80));
  if (expected.equals !== undefined && stdout.trimEnd() !== expected.equals.trimEnd()) {
    return miss('StdoutEquals', `Expected stdout to be ${quote(expected.equals)}.`);
  }
  if (expected.contains !== undefined && !stdout.includes(expected.contains)) {
    return miss('StdoutContains', `Expected stdout to contain ${quote(expected.contains)}.`);
  }
  if (expected.matches !== undefined) {
    const found = matches(expected.matches, stdout);
    if (found !== true)
      return miss(
        'StdoutMatches',
        `Expected stdout to match ${quote(expected.matches)}${found === false ? '' : `: ${found}`}.`,
      );
  }
  return expected.json && compareJson(expected.json, stdout);
}

function matches(pattern: string, text: string): boolean | string {
  try {
    return RE2JS.compile(pattern).matcher(text).find();
  } catch {
    return 'the expression is not valid RE2';
  }
}

/** Far more than a result needs. */
const MAX_DOCUMENT_CHARACTERS = 1024 * 1024;

type JsonExpectation = NonNullable<StdoutExpectation['json']>;

function compareJson(expected: JsonExpectation, stdout: string): Score | undefined {
  const document = lastJsonLine(stdout);
  if (document === undefined) return miss('StdoutJson', 'Expected a line of stdout to be a JSON document of at most 1 MiB; none is.');
  const value = lookUp(document.value, expected.path);
  const at = `the value at ${expected.path}`;
  if (value === undefined) return miss('StdoutJson', `Expected ${at}; the document does not have it.`);
  if (expected.equals !== undefined && !deepEqual(value, parseJson(expected.equals)?.value ?? expected.equals)) {
    return miss('StdoutJson', `Expected ${at} to equal ${clip(expected.equals, 80)}.`);
  }
  if (expected.min !== undefined && !(typeof value === 'number' && value >= expected.min)) {
    return miss('StdoutJson', `Expected ${at} to be a number of at least ${expected.min}.`);
  }
  if (expected.max !== undefined && !(typeof value === 'number' && value <= expected.max)) {
    return miss('StdoutJson', `Expected ${at} to be a number of at most ${expected.max}.`);
  }
  return undefined;
}

/**
 * The last line that is a JSON document. A bare word or number counts too: `print(0.93)` is a score. Line by line from
 * the end without splitting: a parsed or split text takes many times its size, and memory that runs out in the parser
 * ends the process, not only the thread.
 */
function lastJsonLine(stdout: string): { value: unknown } | undefined {
  for (let end = stdout.length; end >= 0;) {
    const start = end === 0 ? 0 : stdout.lastIndexOf('\n', end - 1) + 1;
    const line = end - start > MAX_DOCUMENT_CHARACTERS ? '' : stdout.slice(start, end).trim();
    const document = line === '' ? undefined : parseJson(line);
    if (document !== undefined) return document;
    end = start - 1;
  }
  // Also a document that was printed over several lines, when it is all there is.
  return stdout.length > MAX_DOCUMENT_CHARACTERS ? undefined : parseJson(stdout);
}

function parseJson(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

function lookUp(document: unknown, path: string): unknown {
  let value = document;
  for (const [, index, key] of path.replace(/^\$/, '').matchAll(/\[(\d+)\]|([A-Za-z0-9_-]+)/g)) {
    if (index !== undefined) value = Array.isArray(value) ? (value as unknown[])[Number(index)] : undefined;
    else value = isRecord(value) && Object.hasOwn(value, key!) ? value[key!] : undefined;
    if (value === undefined) return undefined;
  }
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function deepEqual(left: unknown, right: unknown): boolean {
  if (Array.isArray(left))
    return (
      Array.isArray(right) && left.length === right.length && left.every((item, index) => deepEqual(item, right[index]))
    );
  if (!isRecord(left)) return left === right;
  if (!isRecord(right)) return false;
  const keys = Object.keys(left);
  return (
    keys.length === Object.keys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && deepEqual(left[key], right[key]))
  );
}
