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
  const name = reference.replace(/^(evaluations?|eval)(\.crucible\.dev)?\//, '');
  const found =
    (await findRecorded(client, name, namespace, signal)) ?? (await findSubmitted(client, name, namespace, signal));
  if (found !== undefined) return found.uid;
  throw new CliError(
    `there is no evaluation ${JSON.stringify(name)} in the namespace ${namespace}: \`kubectl crucible get -n ${namespace}\` lists them`,
  );
}

async function findRecorded(
  client: StartupAwareClient,
  name: string,
  namespace: string,
  signal: AbortSignal,
): Promise<EvaluationSummary | undefined> {
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
  return undefined;
}

/** Submitted, and not recorded: the operator has not looked at it yet, or does not accept it. */
async function findSubmitted(
  client: StartupAwareClient,
  name: string,
  namespace: string,
  signal: AbortSignal,
): Promise<{ uid: string } | undefined> {
  const { items } = await client.queue({ namespace }, { signal });
  return items.findLast((item) => item.stage === 'Submitted' && item.name === name);
}
