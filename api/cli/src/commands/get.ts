import type { EvaluationSummary, ListQuery } from '@crucible/client';
import { connect, printJson, type Command, type OutputOption, type Tools } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';
import { duration, table } from '../text.ts';

export interface GetOptions extends OutputOption {
  readonly allNamespaces?: boolean;
  readonly status?: ListQuery['status'];
  readonly verdict?: ListQuery['verdict'];
  readonly selector?: string;
  readonly limit?: number;
}

const PAGE = 500;
const DEFAULT_LIMIT = 50;

export const get: Command<GetOptions> = async (tools, references, options) => {
  const { client, namespace } = await connect(tools);
  const { signal } = tools;
  if (references.length > 0) {
    const found = [];
    for (const reference of references)
      found.push(await client.evaluation(await findId(client, reference, namespace, signal), { signal }));
    if (options.output === 'json') printJson(tools.stdout, found.length === 1 ? found[0] : { items: found });
    else
      print(
        tools,
        found.map((evaluation) => ({
          ...evaluation,
          attempts: evaluation.attempts.length,
          ...lastOf(evaluation.attempts),
        })),
        options,
      );
    return EXIT.succeeded;
  }
  const { items, more } = await list(tools, options, namespace);
  if (options.output === 'json') printJson(tools.stdout, { items });
  else if (items.length === 0)
    tools.stderr.line(
      options.allNamespaces ? 'no evaluations found' : `no evaluations found in the namespace ${namespace}`,
    );
  else print(tools, items, options);
  if (more) tools.stderr.line(`the newest ${items.length} are shown: --limit shows more`);
  return EXIT.succeeded;
};

async function list(
  tools: Tools,
  { allNamespaces, status, verdict, selector, limit = DEFAULT_LIMIT }: GetOptions,
  namespace: string,
): Promise<{ items: EvaluationSummary[]; more: boolean }> {
  const { client } = await connect(tools);
  const query = {
    ...(allNamespaces ? {} : { namespace }),
    ...(status && { status }),
    ...(verdict && { verdict }),
    ...(selector && { label: selector }),
  };
  const items: EvaluationSummary[] = [];
  let cursor: string | undefined;
  do {
    const page = await client.list(
      { ...query, limit: Math.min(PAGE, limit - items.length), ...(cursor !== undefined && { cursor }) },
      { signal: tools.signal },
    );
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined && items.length < limit);
  return { items, more: cursor !== undefined };
}

type Row = Pick<
  EvaluationSummary,
  | 'namespace'
  | 'name'
  | 'phase'
  | 'verdict'
  | 'exitCode'
  | 'passed'
  | 'attempts'
  | 'startedAt'
  | 'finishedAt'
  | 'createdAt'
  | 'runtime'
> & { readonly uid: string };

function lastOf(attempts: readonly { exitCode: number | null; startedAt: string | null }[]): {
  exitCode: number | null;
  startedAt: string | null;
  runtime: null;
} {
  const last = attempts.at(-1);
  return { exitCode: last?.exitCode ?? null, startedAt: last?.startedAt ?? null, runtime: null };
}

function print({ stdout, now }: Tools, items: readonly Row[], { output, allNamespaces }: GetOptions): void {
  if (output === 'name') return items.forEach(({ name }) => stdout.line(`evaluation.crucible.dev/${name}`));
  const wide = output === 'wide';
  const head = ['NAME', 'PHASE', 'VERDICT', 'EXIT', 'PASSED', 'ATTEMPTS', 'DURATION', 'AGE', ...(wide ? ['UID'] : [])];
  const rows = items.map((item) => [
    item.name,
    item.phase,
    item.verdict?.class ?? '',
    item.exitCode === null ? '' : String(item.exitCode),
    passedOf(item),
    String(item.attempts),
    ranFor(item),
    duration((now() - Date.parse(item.createdAt)) / 1000),
    ...(wide ? [item.uid] : []),
  ]);
  const all = [head, ...rows];
  stdout.line(
    table(
      allNamespaces
        ? all.map((row, index) => [index === 0 ? 'NAMESPACE' : (items[index - 1]?.namespace ?? ''), ...row])
        : all,
    ),
  );
}

const passedOf = ({ passed }: Row): string => (passed === null ? '' : passed ? 'True' : 'False');

const ranFor = ({ startedAt, finishedAt }: Row): string =>
  startedAt === null || finishedAt === null ? '' : duration((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000);
