import { connect, connectRedis, EventRelay, isUp, type RelayObserver } from '@crucible/storage';
import type { Logger } from 'pino';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { RecorderConfig } from './config.ts';

/** Numbering, publishing, and a question of either: never in the way of the captures' own connections. */
const POOL_SIZE = 3;

export interface RunningRelay {
  /** What is not published stays in Postgres. */
  stop(): Promise<void>;
}

interface Parts {
  readonly config: Pick<RecorderConfig, 'databaseUrl' | 'redisUrl' | 'id'>;
  readonly registry: Registry;
  readonly logger: Logger;
}

/** Events from Postgres to Redis, beside the recorder: nothing of the recorder waits for it, readiness neither. */
export function startRelay({ config, registry, logger }: Parts): RunningRelay {
  const database = connect({
    connectionString: config.databaseUrl,
    applicationName: `crucible-relay ${config.id}`,
    poolSize: POOL_SIZE,
    prepared: true,
  });
  const redis =
    config.redisUrl === undefined ? undefined : connectRedis({ url: config.redisUrl, connectionName: 'crucible-relay' });
  const relay = new EventRelay(database, redis, observe(registry, logger, () => redis !== undefined && isUp(redis)));
  relay.start();
  return {
    stop: async () => {
      await relay.stop();
      redis?.disconnect();
      await database.close();
    },
  };
}

/** Zero-initialised, like all metrics. */
export function observe(registry: Registry, logger: Logger, redisUp: () => boolean): RelayObserver {
  const registers = [registry];
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers });
  const counter = (name: string, help: string): Counter => new Counter({ name, help, registers });
  const active = gauge('crucible_events_relay_active', 'Whether this process relays events.');
  const lag = gauge('crucible_events_relay_lag', 'Events that are in Postgres and not yet in Redis.');
  const published = counter('crucible_events_published_total', 'Events published to Redis, repeats after a flush too.');
  const dead = gauge('crucible_events_dead_letters', 'Events that a consumer could not handle, as of the last look.');
  const rewritten = counter('crucible_events_stream_rewrites_total', 'Times the stream was written anew from Postgres.');
  new Gauge({
    name: 'crucible_redis_up',
    help: 'Whether Redis is connected.',
    registers,
    collect() {
      this.set(redisUp() ? 1 : 0);
    },
  });
  return {
    active: (is) => {
      active.set(is ? 1 : 0);
      // Whoever relays now tells the lag.
      if (!is) lag.set(0);
    },
    lag: (events) => lag.set(events),
    published: (events) => published.inc(events),
    deadLetters: (count) => dead.set(count),
    rewritten: () => {
      rewritten.inc();
      logger.info('writing the event stream anew from Postgres');
    },
    trouble: (store, reason) => {
      if (reason === undefined) logger.info({ store }, 'events are relayed again');
      else logger.warn({ store, reason }, 'events wait in Postgres');
    },
  };
}
