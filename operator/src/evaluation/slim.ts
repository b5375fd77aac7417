import { EVALUATIONS, trim } from '../kube/index.ts';
import type { KubeClient, KubeObject, ListOptions } from '../kube/index.ts';
import type { Action } from './actions.ts';
import type { RawEvaluation } from './snapshot.ts';

// An Evaluation may bring 128 KiB of code and files, and thousands may wait: what the cache keeps of one is what decisions
// need. Its content is read when it is recorded or started, from the API server, which does not let it change.

/** A page of the largest ones there may be is some 13 MiB, and is in memory several times until it is read. */
export const EVALUATIONS_PER_PAGE = 100;
/** Content up to this many characters stays: a second read of something small costs more than it saves. */
const KEPT_CHARACTERS = 2048;

interface Content {
  readonly code?: string;
  readonly stdin?: string;
  readonly files?: readonly { readonly path: string; readonly content?: string }[];
}

/**
 * Where content was, a character stands for it, so that the spec is still one; `slim` tells that it is not the content.
 * Whatever is not of the right shape stays as it is: a spec that cannot be read is refused by what it says.
 */
export function slimEvaluation(raw: KubeObject): RawEvaluation {
  const whole = trim(raw) as RawEvaluation;
  const spec = whole.spec as Content | null | undefined;
  if (typeof spec !== 'object' || spec === null || characters(spec) <= KEPT_CHARACTERS) return whole;
  const { code, stdin, files } = spec;
  return {
    ...whole,
    slim: true,
    spec: {
      ...spec,
      ...(typeof code === 'string' && { code: standIn(code) }),
      ...(typeof stdin === 'string' && { stdin: standIn(stdin) }),
      ...(Array.isArray(files) && { files: files.map(slimFile) }),
    },
  };
}

/** Which there are, from the API server: what identifies each, and nothing of its content. */
export async function listIdentities(
  client: Pick<KubeClient, 'list'>,
  options: Pick<ListOptions, 'namespace' | 'labelSelector' | 'signal'>,
): Promise<KubeObject[]> {
  const { items } = await client.list<KubeObject>(EVALUATIONS, { ...options, limit: EVALUATIONS_PER_PAGE, transform: identity });
  return items;
}

function identity({ apiVersion, kind, metadata }: KubeObject): KubeObject {
  const { name = '', namespace = '', uid = '', deletionTimestamp } = metadata;
  return { apiVersion, kind, metadata: { name, namespace, uid, ...(deletionTimestamp !== undefined && { deletionTimestamp }) } };
}

/** What writes content down: into the record, or to where the code reads it. */
const OF_CONTENT: ReadonlySet<Action['type']> = new Set(['recordEvaluation', 'recordAttempt', 'createConfigMap', 'launch']);

export function needsContent(actions: readonly Action[]): boolean {
  return actions.some(({ type }) => OF_CONTENT.has(type));
}

function contentOf(file: unknown): unknown {
  return (file as { content?: unknown } | null)?.content;
}

function slimFile(file: unknown): unknown {
  const content = contentOf(file);
  return typeof content === 'string' ? { ...(file as object), content: standIn(content) } : file;
}

function standIn(text: string): string {
  return text === '' ? '' : '?';
}

function characters({ code, stdin, files }: Content): number {
  const texts: unknown[] = [code, stdin, ...(Array.isArray(files) ? files.map((file) => contentOf(file)) : [])];
  return texts.reduce<number>((sum, text) => sum + (typeof text === 'string' ? text.length : 0), 0);
}
