import { KubeClient, KubeError, type KubeObject } from '@crucible/operator/kube';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ScriptedServer, type Exchange } from '../../operator/src/kube/testing-server.ts';
import { Authorizer } from './auth/authorizer.ts';
import type { Caller } from './auth/authenticator.ts';
import { Cluster } from './cluster.ts';
import { submit } from './evaluations.ts';
import type { Services } from './services.ts';
import type { Submission } from './schemas/submission.ts';

const caller = { token: 't', key: 'k', who: 'w', identity: { username: 'ann', uid: '', groups: [], extra: {} } } as unknown as Caller;
const submission = (metadata: object = {}) => ({ metadata: { namespace: 'evals', ...metadata }, spec: { code: 'x' } }) as unknown as Submission;

/** An API server that keeps Evaluations by name, and whose connection breaks when the test says so. */
class BreakingServer {
  readonly runs = new Map<string, KubeObject>();
  readonly rows: unknown[][] = [];
  server!: ScriptedServer;
  /** Of the creates that come: what becomes of each. */
  readonly creates: ('cut before' | 'cut after' | 'unavailable after')[] = [];
  /** Namespaces are told of that often; then, so often, not. */
  namespaces = { told: Number.POSITIVE_INFINITY, cut: 0 };

  readonly handle = (exchange: Exchange): void => {
    if (exchange.method === 'GET' && exchange.path === '/api/v1/namespaces/evals') return this.#namespace(exchange);
    const { runs } = this;
    if (exchange.method === 'GET') {
      const found = runs.get(exchange.path.split('/').at(-1) ?? '');
      return found === undefined ? exchange.fail(404, 'NotFound') : exchange.json(found);
    }
    const fate = this.creates.shift();
    if (fate === 'cut before') return exchange.cut();
    const object = exchange.body as KubeObject;
    const name = object.metadata.name ?? `${object.metadata['generateName' as never] as string}${runs.size}`;
    if (runs.has(name)) return exchange.fail(409, 'AlreadyExists');
    const made = { ...object, metadata: { ...object.metadata, name, uid: `uid-${runs.size}` } };
    runs.set(name, made);
    if (fate === 'cut after') return exchange.cut();
    if (fate === 'unavailable after') return exchange.fail(504, 'Timeout');
    exchange.json(made, 201);
  };

  #namespace(exchange: Exchange): void {
    const { namespaces } = this;
    if (namespaces.told > 0) namespaces.told -= 1;
    else if (namespaces.cut > 0) return ((namespaces.cut -= 1), exchange.cut());
    exchange.json({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'evals', uid: 'home' } });
  }
}

describe('submit', () => {
  let api: BreakingServer;
  let client: KubeClient;
  let services: Services;
  beforeEach(async () => {
    api = new BreakingServer();
    api.server = await ScriptedServer.start();
    api.server.handler = api.handle;
    client = new KubeClient({ access: api.server.access(), logger: pino({ level: 'silent' }) });
    const cluster = new Cluster(client, client);
    const database = { query: async (_sql: string, values?: unknown[]) => (values && api.rows.push(values), { rows: [] }) };
    services = { cluster, database, authorizer: new Authorizer(cluster, undefined as never, () => 0) } as unknown as Services;
  });
  afterEach(async () => {
    await client.close();
    await api.server.close();
  });

  it.each([['cut before'], ['cut after'], ['unavailable after']] as const)('makes one run when the create is %s', async (fate) => {
    api.creates.push(fate);
    const accepted = await submit(services, caller, submission({ generateName: 'mine-' }));
    expect([...api.runs.keys()]).toEqual([accepted.name]);
    expect(accepted).toMatchObject({ id: 'uid-0', name: expect.stringMatching(/^mine-[a-z0-9]{10}$/) as string });
    expect(api.rows).toEqual([['uid-0', 'evals', 'home', accepted.name, 'ann']]);
  });

  it('says the name when nobody knows whether it was made, so that it cannot be made twice', async () => {
    api.creates.push('cut after', 'cut before');
    const problem = await submit(services, caller, submission()).catch((error: unknown) => error);
    const [name] = api.runs.keys();
    expect(problem).toMatchObject({ status: 503, message: expect.stringContaining(`evals/${name}: look for it, or submit again with this metadata.name`) as string });
  });

  it('leaves a name of the caller’s own to the caller', async () => {
    api.creates.push('cut after');
    await expect(submit(services, caller, submission({ name: 'own' }))).rejects.toMatchObject({ code: 0 });
    await expect(submit(services, caller, submission({ name: 'own' }))).rejects.toMatchObject({ code: 409 });
  });

  it('asks again for a namespace that it is not told of after the create, and says that the run is there', async () => {
    // Each question is asked twice when the connection breaks.
    api.namespaces = { told: 1, cut: 4 };
    const accepted = await submit(services, caller, submission());
    expect(api.rows).toEqual([['uid-0', 'evals', 'home', accepted.name, 'ann']]);
    services.authorizer.freshUidOf = () => Promise.reject(new KubeError({ code: 401, reason: 'Unauthorized', message: 'the token is over' }));
    const problem = await submit(services, caller, submission()).catch((error: unknown) => error);
    expect(problem).toMatchObject({ status: 503, message: expect.stringMatching(/was created with the id uid-1.*do not submit it again/) as string });
  });
});
