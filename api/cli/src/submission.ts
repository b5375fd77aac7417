import { readFileSync } from 'node:fs';
import { basename, extname } from 'node:path';
import type { Submission } from '@crucible/client';
import { parseAllDocuments } from 'yaml';
import { usageError } from './errors.ts';

export interface SubmissionOptions {
  readonly runtime?: string;
  readonly name?: string;
  readonly label?: readonly string[];
  readonly env?: readonly string[];
  readonly file?: readonly string[];
  readonly stdin?: string;
  readonly timeout?: number;
  readonly cpu?: string;
  readonly memory?: string;
  readonly disk?: string;
  readonly runtimeClass?: string;
  readonly artifact?: readonly string[];
  readonly priority?: number;
  readonly retry?: number;
  readonly queue?: string;
}

export interface Place {
  readonly namespace: string;
  /** Whether somebody asked for it: then a manifest may not say otherwise. */
  readonly explicit: boolean;
}

const RUNTIMES: Readonly<Record<string, string>> = {
  '.py': 'python',
  '.js': 'node',
  '.mjs': 'node',
  '.cjs': 'node',
  '.sh': 'bash',
  '.bash': 'bash',
};
const MANIFESTS = new Set(['.yaml', '.yml', '.json']);
/** What the API server leaves room for behind a generateName. */
const MAX_PREFIX = 50;

/** A file of code with options, or a manifest as kubectl takes it; `-` is code on standard input. */
export function buildSubmission(
  path: string,
  args: readonly string[],
  options: SubmissionOptions,
  place: Place,
): Submission {
  const extension = extname(path).toLowerCase();
  const text = readText(path === '-' ? 0 : path, path === '-' ? 'standard input' : path);
  if (MANIFESTS.has(extension) && options.runtime === undefined) return fromManifest(path, text, args, options, place);
  const runtime = options.runtime ?? RUNTIMES[extension];
  if (runtime === undefined)
    throw usageError(
      `which runtime is for ${path}? Give --runtime (known by their endings: ${Object.keys(RUNTIMES).join(' ')})`,
    );
  if (text === '') throw usageError(`${path} is empty: there is nothing to run`);
  const named = options.name === undefined ? { generateName: prefixOf(path) } : { name: options.name };
  const labels = pairs(options.label, '--label');
  return {
    metadata: {
      namespace: place.namespace,
      ...named,
      ...(labels.length > 0 && { labels: Object.fromEntries(labels) }),
    },
    spec: { runtime, code: text, ...specOf(args, options) },
  };
}

function specOf(args: readonly string[], options: SubmissionOptions): Omit<Submission['spec'], 'runtime' | 'code'> {
  const { cpu, memory, disk, timeout, runtimeClass, artifact, priority, retry, queue } = options;
  const env = pairs(options.env, '--env').map(([name, value]) => ({ name, value }));
  const files = (options.file ?? []).map(fileOf);
  const resources = { ...(cpu && { cpu }), ...(memory && { memory }), ...(disk && { disk }) };
  return {
    ...(args.length > 0 && { args: [...args] }),
    ...(env.length > 0 && { env }),
    ...(files.length > 0 && { files }),
    ...(options.stdin !== undefined && { stdin: readText(options.stdin, options.stdin) }),
    ...(timeout !== undefined && { timeoutSeconds: timeout }),
    ...(Object.keys(resources).length > 0 && { resources }),
    ...(runtimeClass !== undefined && { isolation: { runtimeClassName: runtimeClass } }),
    ...(artifact !== undefined && { artifacts: { paths: [...artifact] } }),
    ...(priority !== undefined && { priority }),
    ...(retry !== undefined && { retry: { limit: retry } }),
    ...(queue !== undefined && { queue }),
  };
}

/** The API checks it against the resource’s own schema; here only what would be lost or misunderstood. */
function fromManifest(
  path: string,
  text: string,
  args: readonly string[],
  options: SubmissionOptions,
  { namespace, explicit }: Place,
): Submission {
  const foreign = Object.keys(options).filter((option) => option !== 'name');
  if (foreign.length > 0 || args.length > 0)
    throw usageError(`${path} is a manifest and says everything itself: only --name goes with it`);
  const documents = parseAllDocuments(text, { uniqueKeys: true });
  const [document] = documents;
  if (!Array.isArray(documents) || documents.length !== 1 || document === undefined)
    throw usageError(`${path} has ${documents.length} documents: one Evaluation is expected`);
  const [mistake] = document.errors;
  if (mistake !== undefined) throw usageError(`${path} is not YAML: ${mistake.message.split('\n')[0]}`);
  const object = document.toJS({ maxAliasCount: 100 }) as {
    kind?: unknown;
    metadata?: { namespace?: string; name?: string; generateName?: string };
  } | null;
  if (object?.kind !== 'Evaluation')
    throw usageError(`${path} is not an Evaluation: its kind is ${JSON.stringify(object?.kind) ?? 'missing'}`);
  const { metadata = {} } = object;
  if (explicit && metadata.namespace !== undefined && metadata.namespace !== namespace)
    throw usageError(`${path} is for the namespace ${metadata.namespace}, and --namespace says ${namespace}`);
  const { status: _ignored, ...rest } = object as { status?: unknown };
  const name = options.name === undefined ? {} : { name: options.name };
  return {
    ...rest,
    metadata: { ...metadata, namespace: metadata.namespace ?? namespace, ...name },
  } as unknown as Submission;
}

function fileOf(given: string): { path: string; content: string } {
  const [local = '', inside] = splitOnce(given);
  return { path: inside ?? basename(local), content: readText(local, local) };
}

const splitOnce = (text: string): [string, string | undefined] => {
  const at = text.indexOf('=');
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
};

function pairs(given: readonly string[] | undefined, option: string): [string, string][] {
  return (given ?? []).map((text) => {
    const [name, value] = splitOnce(text);
    if (name === '' || value === undefined)
      throw usageError(`${option} ${JSON.stringify(text)}: NAME=VALUE is expected`);
    return [name, value];
  });
}

/** Evaluations hold text: bytes that are none would be changed on the way. */
function readText(source: string | number, name: string): string {
  let data: Buffer;
  try {
    data = readFileSync(source);
  } catch (error) {
    throw usageError(`${name} cannot be read: ${(error as Error).message}`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(data);
  } catch {
    throw usageError(`${name} is not text in UTF-8: only that can be sent`);
  }
}

function prefixOf(path: string): string {
  const stem = path === '-' ? 'stdin' : basename(path, extname(path));
  const safe = stem
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, MAX_PREFIX);
  return `${safe === '' ? 'eval' : safe}-`;
}
