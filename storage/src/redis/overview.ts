import type { Redis } from 'ioredis';
import { CACHE_STATISTICS_KEY } from './cache.ts';
import { isUp } from './connection.ts';

/** What the storage overview shows of Redis. */
export interface RedisOverview {
  keys: number;
  /** Of our caches, over all processes, since Redis was last emptied; null when none was asked. */
  hitRate: number | null;
  /** The server's own (`INFO stats`): over every command of every client, the event stream's too. */
  keyspaceHitRate: number | null;
  usedMemoryBytes: number;
  /** 0: no limit. */
  maxMemoryBytes: number;
  /** Keys that went for want of memory. */
  evictedKeys: number;
  server: 'redis' | 'valkey';
  version: string;
}

/** Undefined when Redis does not answer: it may be away at any time. */
export async function redisOverview(redis: Redis | undefined): Promise<RedisOverview | undefined> {
  if (redis === undefined || !isUp(redis)) return undefined;
  try {
    const [keys, text, cached] = await Promise.all([redis.dbsize(), redis.info(), redis.hmget(CACHE_STATISTICS_KEY, 'hits', 'misses')]);
    const info = new Map(text.split('\r\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
    const number = (name: string): number => Number(info.get(name) ?? 0);
    const valkey = info.get('valkey_version');
    return {
      keys,
      hitRate: hitRate({ hits: Number(cached[0] ?? 0), misses: Number(cached[1] ?? 0) }),
      keyspaceHitRate: hitRate({ hits: number('keyspace_hits'), misses: number('keyspace_misses') }),
      usedMemoryBytes: number('used_memory'),
      maxMemoryBytes: number('maxmemory'),
      evictedKeys: number('evicted_keys'),
      server: valkey === undefined ? 'redis' : 'valkey',
      version: valkey ?? info.get('redis_version') ?? 'unknown',
    };
  } catch {
    return undefined;
  }
}

/** Between 0 and 1; null before the first question. */
export function hitRate({ hits, misses }: { hits: number; misses: number }): number | null {
  return hits + misses === 0 ? null : hits / (hits + misses);
}
