import type { EvaluationSummary, StartupAwareClient } from '@crucible/client';
import { CliError } from './errors.ts';

const UID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Others whose names contain the one that is looked for. */
const MAX_PAGES = 20;

/** The UID of what a person calls NAME, evaluation/NAME or by its UID. Of several with one name: the newest. */
export async function findId(
  client: StartupAwareClient,
  reference: string,
  namespace: string,
  signal: AbortSignal,
): Promise<string> {
  if (UID.test(reference)) return reference.toLowerCase();
  return (await findSummary(client, reference, namespace, signal)).uid;
}

export async function findSummary(
  client: StartupAwareClient,
  reference: string,
  namespace: string,
  signal: AbortSignal,
): Promise<EvaluationSummary> {
  const name = reference.replace(/^(evaluations?|eval)(\.crucible\.dev)?\//, '');
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES && name.length <= 253; page += 1) {
    const { items, nextCursor } = await client.list(
      { namespace, name, limit: 500, ...(cursor !== undefined && { cursor }) },
      { signal },
    );
    const found = items.find((item) => item.name === name);
    if (found !== undefined) return found;
    if (nextCursor === undefined) break;
    cursor = nextCursor;
  }
  throw new CliError(
    `there is no evaluation ${JSON.stringify(name)} in the namespace ${namespace}: \`kubectl crucible get -n ${namespace}\` lists them`,
  );
}
