import type { Redis } from 'ioredis';
import { PENDING_TTL_SECONDS, pendingKey } from '../redis/pending.ts';
import { EVENT_TYPES } from '../types.ts';
import { toCloudEvent } from './cloud-event.ts';
import type { PublishedEvent } from './positions.ts';

export const EVENT_STREAM = 'crucible:events';
export const DEAD_STREAM = 'crucible:events:dead';
/** About 20 MB; who is further behind reads Postgres. */
export const STREAM_LENGTH = 20_000;
const DEAD_LENGTH = 1_000;
const MAX_DEAD_ERROR = 500;

/** The position of an entry is its id: a replay cannot add an event twice, and who reads knows where it is. */
export const streamId = (position: number): string => `${position}-0`;
export const positionOf = (id: string): number => Number(id.split('-')[0]);

const LAST = `
local function last()
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  if info.err then
    if string.find(info.err, 'no such key') then return '0' end
    error(info.err)
  end
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return string.match(info[i + 1], '^%d+') end
  end
end
`;

// Only if the stream ends where the caller believes it does: a flush, a second relay, or an answer that was lost shows
// before anything is written, and a batch is there in whole or not at all. The hints of pending runs change with it.
const PUBLISH = `${LAST}
local at = last()
if at ~= ARGV[1] then return at end
for i = 2, #KEYS do
  local a = 4 + (i - 2) * 3
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[a] .. '-0', 'event', ARGV[a + 1])
  if ARGV[a + 2] == '+' then redis.call('SET', KEYS[i], '1', 'EX', ARGV[3])
  elseif ARGV[a + 2] == '-' then redis.call('DEL', KEYS[i]) end
end
return ''
`;

const RESET = `${LAST}
if last() == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`;

export interface StreamState {
  /** Position of the newest event ever added; 0 when there is no stream. */
  last: number;
  /** The newest entry, unless it was trimmed. */
  newest: { position: number; text: string } | undefined;
  deadLetters: number;
}

/** The Redis Stream of all events, oldest ones trimmed. Every method throws when Redis does not serve. */
export class EventStream {
  readonly #redis: Redis;
  readonly #length: number;

  constructor(redis: Redis, length = STREAM_LENGTH) {
    this.#redis = redis;
    this.#length = length;
  }

  /** Undefined when all are added; else nothing was, because the stream ends at the returned position. */
  async publish(after: number, events: readonly PublishedEvent[]): Promise<number | undefined> {
    const keys = [EVENT_STREAM, ...events.map(({ evaluationUid }) => pendingKey(evaluationUid))];
    const values = events.flatMap((event) => [String(event.position), JSON.stringify(toCloudEvent(event)), pendingChange(event.type)]);
    const settings = [String(after), String(this.#length), String(PENDING_TTL_SECONDS)];
    const at = String(await this.#redis.eval(PUBLISH, keys.length, ...keys, ...settings, ...values));
    return at === '' ? undefined : Number(at);
  }

  async state(): Promise<StreamState> {
    const [info, newest, deadLetters] = await Promise.all([
      this.#redis.xinfo('STREAM', EVENT_STREAM).catch(noSuchKey),
      this.#redis.xrevrange(EVENT_STREAM, '+', '-', 'COUNT', 1),
      this.#redis.xlen(DEAD_STREAM),
    ]);
    const fields = info as unknown[];
    const id = fields[fields.indexOf('last-generated-id') + 1];
    const entry = newest[0];
    return {
      last: fields.length === 0 ? 0 : positionOf(String(id)),
      newest: entry === undefined ? undefined : { position: positionOf(entry[0]), text: eventText(entry[1]) },
      deadLetters,
    };
  }

  /** Removes the stream, unless it has moved on from `last`. */
  async reset(last: number): Promise<void> {
    await this.#redis.eval(RESET, 1, EVENT_STREAM, String(last));
  }
}

export interface DeadLetter {
  group: string;
  consumer: string;
  deliveries: number;
  error: string;
  /** As it was in the stream. */
  event: string;
}

/** Keeps the letter for people to see, and ends its delivery, both or none. */
export async function bury(redis: Redis, id: string, letter: DeadLetter): Promise<void> {
  const fields = {
    id, group: letter.group, consumer: letter.consumer, deliveries: String(letter.deliveries),
    error: letter.error.slice(0, MAX_DEAD_ERROR), event: letter.event,
  };
  const results = await redis
    .multi()
    .xadd(DEAD_STREAM, 'MAXLEN', '~', DEAD_LENGTH, '*', ...Object.entries(fields).flat())
    .xack(EVENT_STREAM, letter.group, id)
    .exec();
  const failed = results?.find(([error]) => error !== null);
  if (results === null || failed !== undefined) throw failed?.[0] ?? new Error('the dead letter was not written');
}

/** Newest first. */
export async function listDeadLetters(redis: Redis, limit = 100): Promise<(DeadLetter & { id: string })[]> {
  const entries = await redis.xrevrange(DEAD_STREAM, '+', '-', 'COUNT', limit);
  return entries.map(([, flat]) => {
    const fields = toFields(flat);
    const text = (name: string) => fields.get(name) ?? '';
    return {
      id: text('id'), group: text('group'), consumer: text('consumer'), deliveries: Number(text('deliveries')),
      error: text('error'), event: text('event'),
    };
  });
}

export function eventText(fields: readonly string[]): string {
  return toFields(fields).get('event') ?? '';
}

function toFields(flat: readonly string[]): Map<string, string> {
  return new Map(flat.flatMap((field, index) => (index % 2 === 0 ? [[field, flat[index + 1] ?? ''] as const] : [])));
}

function pendingChange(type: string): '+' | '-' | '' {
  if (type === EVENT_TYPES.evaluationAccepted) return '+';
  return type === EVENT_TYPES.evaluationFinished ? '-' : '';
}

function noSuchKey(error: unknown): [] {
  if (error instanceof Error && error.message.includes('no such key')) return [];
  throw error;
}
