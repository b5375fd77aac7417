import type { Database, FileStore, SigningKey } from '@crucible/storage';
import type { Settings } from '@crucible/operator/sandbox';
import type { Redis } from 'ioredis';
import type { Authenticator } from './auth/authenticator.ts';
import type { Authorizer } from './auth/authorizer.ts';
import type { SessionSealer } from './auth/session.ts';
import type { Cluster } from './cluster.ts';
import type { RateLimiter } from './http/rate-limit.ts';
import type { EventHub } from './live/event-hub.ts';
import type { Streams } from './live/sse.ts';
import type { OutputFollowers } from './live/output-follower.ts';
import type { Snapshots } from './snapshots.ts';

/** What routes are made of: everything that is not HTTP, put together once by main.ts. */
export interface Services {
  readonly database: Database;
  readonly redis: Redis | undefined;
  readonly files: FileStore;
  /** Signs evidence bundles; undefined: there are none. */
  readonly signingKey: SigningKey | undefined;
  readonly cluster: Cluster;
  readonly authenticator: Authenticator;
  readonly authorizer: Authorizer;
  readonly sealer: SessionSealer;
  readonly rateLimiter: RateLimiter;
  readonly hub: EventHub;
  readonly streams: Streams;
  readonly output: OutputFollowers;
  readonly snapshots: Snapshots;
  /** The operator's settings, for plans and for the queue. */
  readonly operator: Settings;
  /** Why requests cannot be served yet, or undefined when they can. */
  readonly notReady: () => string | undefined;
  readonly now: () => number;
}
