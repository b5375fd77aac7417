// Who goes next, as pure functions: the operator grants places by them, and whoever shows the queue computes positions
// by them from the same facts. Nothing here imports anything.

/** An evaluation that waits for a place. */
export interface Waiting {
  readonly namespace: string;
  /** Higher first, within its namespace. */
  readonly priority: number;
  /** Milliseconds since the epoch: the older first. */
  readonly createdAt: number;
  /** Decides between those that are equal otherwise: the resource's name. */
  readonly name: string;
}

export interface QueueLimits {
  /** Evaluations that may hold a place at once. */
  readonly total: number;
  /** The same for single namespaces; one that is not named has only the total. */
  readonly namespaces: Readonly<Record<string, number>>;
}

/** What a namespace has had. */
export interface Share {
  /** Evaluations of it that hold a place. */
  readonly running: number;
  /** When one of it was last given a place, in milliseconds since the epoch; 0: never. */
  readonly lastGrantAt: number;
}

const NOTHING: Share = { running: 0, lastGrantAt: 0 };

/** In the namespace: priority, then age. */
export function compareWaiting(left: Waiting, right: Waiting): number {
  if (left.priority !== right.priority) return right.priority - left.priority;
  if (left.createdAt !== right.createdAt) return left.createdAt - right.createdAt;
  return left.name < right.name ? -1 : left.name > right.name ? 1 : 0;
}

/**
 * Between namespaces: the one with the fewest running; of several, the one that was served the longest time ago, so that
 * a namespace that submits without end delays another by one place and not for ever.
 */
export function compareShares(
  left: { readonly namespace: string; readonly share: Share },
  right: { readonly namespace: string; readonly share: Share },
): number {
  if (left.share.running !== right.share.running) return left.share.running - right.share.running;
  if (left.share.lastGrantAt !== right.share.lastGrantAt) return left.share.lastGrantAt - right.share.lastGrantAt;
  return left.namespace < right.namespace ? -1 : 1;
}

export function atLimit(namespace: string, running: number, limits: QueueLimits): boolean {
  return running >= (limits.namespaces[namespace] ?? Number.POSITIVE_INFINITY);
}

/** The namespace whose turn it is, of those that wait and are below their own limit. */
export function nextNamespace(
  namespaces: Iterable<string>,
  shareOf: (namespace: string) => Share | undefined,
  limits: QueueLimits,
): string | undefined {
  let best: { namespace: string; share: Share } | undefined;
  for (const namespace of namespaces) {
    const share = shareOf(namespace) ?? NOTHING;
    if (atLimit(namespace, share.running, limits)) continue;
    const candidate = { namespace, share };
    if (best === undefined || compareShares(candidate, best) < 0) best = candidate;
  }
  return best?.namespace;
}

/**
 * All that wait, in the order in which they are given places if none of those that run ends and none is added: the
 * position of one is its index plus one. Namespaces at their own limit come after all others.
 */
export function grantOrder<W extends Waiting>(
  waiting: readonly W[],
  shares: Readonly<Record<string, Share>>,
  limits: QueueLimits,
): W[] {
  const queues = new Map<string, W[]>();
  for (const one of waiting) {
    const queue = queues.get(one.namespace);
    if (queue === undefined) queues.set(one.namespace, [one]);
    else queue.push(one);
  }
  for (const queue of queues.values()) queue.sort(compareWaiting).reverse();
  const now = new Map(Object.entries(shares));
  let clock = Math.max(0, ...Object.values(shares).map(({ lastGrantAt }) => lastGrantAt));
  const order: W[] = [];
  while (queues.size > 0) {
    const namespace =
      nextNamespace(queues.keys(), (name) => now.get(name), limits) ??
      nextNamespace(queues.keys(), (name) => now.get(name), { ...limits, namespaces: {} })!;
    const queue = queues.get(namespace)!;
    order.push(queue.pop()!);
    if (queue.length === 0) queues.delete(namespace);
    clock += 1;
    now.set(namespace, { running: (now.get(namespace)?.running ?? 0) + 1, lastGrantAt: clock });
  }
  return order;
}
