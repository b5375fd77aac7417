import type { Database, EventFeed, FileStore, OutputWatch, SigningKey } from '@crucible/storage';
import type { Settings } from '@crucible/operator/sandbox';
import type { Redis } from 'ioredis';
import type { Authenticator } from './auth/authenticator.ts';
import type { Authorizer } from './auth/authorizer.ts';
import type { SessionSealer } from './auth/session.ts';
import type { Cluster } from './cluster.ts';
import type { RequestLimiter } from './http/rate-limit.ts';
import type { Streams } from './live/sse.ts';
import type { Snapshots } from './snapshots.ts';

/** What routes are made of: everything that is not HTTP, put together once by main.ts. */
export interface Services {
  readonly database: Database;
  readonly redis: Redis | undefined;
  /** Connections that wait for news of events and output. */
  readonly listeners: readonly Redis[];
  readonly files: FileStore;
  /** Signs evidence bundles; undefined: there are none. */
  readonly signingKey: SigningKey | undefined;
  readonly cluster: Cluster;
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  readonly sealer: SessionSealer;
  readonly rateLimiter: RequestLimiter;
  readonly feed: EventFeed;
  readonly streams: Streams;
  readonly watch: OutputWatch;
  readonly snapshots: Snapshots;
  /** The operator's settings, for plans and for the queue. */
  readonly operator: Settings;
  /** Why requests cannot be served yet, or undefined when they can. */
  readonly notReady: () => string | undefined;
  readonly now: () => number;
}
