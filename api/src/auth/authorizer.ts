import type { KubeObject } from '@crucible/operator/kube';
import type { AccessQuestion, Cluster } from '../cluster.ts';
import { forbidden } from '../problems.ts';
import type { Caller } from './authenticator.ts';
import { TtlCache } from './ttl-cache.ts';

/** What a caller may list, by UID of the namespaces; or everything, also of namespaces that are gone. */
export type Scope = 'all' | readonly string[];

/** What the record knows of namespaces. */
export interface KnownNamespaces {
  /** Of those that exist. */
  names(): Promise<readonly string[]>;
  /** Of the present one of that name. */
  uidOf(name: string): Promise<string | undefined>;
  /** All that ever had the name. */
  uidsOf(name: string): Promise<readonly string[]>;
}

export interface Owned {
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
}

type Resource = 'evaluations' | 'evaluationruntimes' | 'evaluationsuites';

const MAX_ANSWERS = 50_000;
/** A right that was taken away works for this long still. */
const ANSWER_SECONDS = 5;
const NAMESPACE_SECONDS = 5;

/** Kubernetes RBAC is the only permission system: this only asks, and keeps the answers for seconds. */
export class Authorizer {
  readonly #cluster: Cluster;
  readonly #known: KnownNamespaces;
  readonly #answers: TtlCache<boolean>;
  readonly #uids: TtlCache<string | undefined>;

  constructor(cluster: Cluster, known: KnownNamespaces, now: () => number) {
    this.#cluster = cluster;
    this.#known = known;
    this.#answers = new TtlCache(MAX_ANSWERS, now);
    this.#uids = new TtlCache(MAX_ANSWERS, now);
  }

  async may(caller: Caller, question: AccessQuestion): Promise<boolean> {
    const key = JSON.stringify([caller.key, question.verb, question.namespace, question.resource, question.name ?? '']);
    return await this.#answers.get(key, () => this.#cluster.mayThey(caller.identity, question), () => ANSWER_SECONDS);
  }

  async scope(caller: Caller, resource: Resource = 'evaluations'): Promise<Scope> {
    if (await this.may(caller, { verb: 'list', namespace: '', resource })) return 'all';
    const names = await this.#known.names();
    const uids = await Promise.all(names.map((name) => this.#listable(caller, name, resource)));
    return uids.filter((uid) => uid !== undefined);
  }

  /** Names of those in which the caller may list, of those that exist. */
  async listable(caller: Caller): Promise<string[]> {
    const names = await this.#known.names();
    const may = await Promise.all(names.map((namespace) => this.may(caller, { verb: 'list', namespace, resource: 'evaluations' })));
    return names.filter((_, index) => may[index]);
  }

  /** Narrowed to one namespace when one is named. What is answered does not depend on whether it exists. */
  async scopeOf(caller: Caller, namespace: string | undefined, resource: Resource = 'evaluations'): Promise<Scope> {
    if (namespace === undefined) return await this.scope(caller, resource);
    if (await this.may(caller, { verb: 'list', namespace: '', resource })) return await this.#known.uidsOf(namespace);
    if (!(await this.may(caller, { verb: 'list', namespace, resource })))
      throw forbidden(`you may not list ${resource} in namespace "${namespace}"`);
    const uid = await this.uidOf(caller, namespace);
    return uid === undefined ? [] : [uid];
  }

  /** By the namespace's UID: one made again under an old name inherits nothing. */
  async mayGet(caller: Caller, owned: Owned, resource: Resource = 'evaluations'): Promise<boolean> {
    if (await this.may(caller, { verb: 'get', namespace: '', resource })) return true;
    return (await this.#mayGetIn(caller, owned, resource)) && (await this.uidOf(caller, owned.namespace)) === owned.namespaceUid;
  }

  /** The namespace's UID now. The cluster knows best; who may not read namespaces is answered from the record. */
  async uidOf(caller: Caller, namespace: string): Promise<string | undefined> {
    const load = async (): Promise<string | undefined> => {
      const found = await this.#cluster.namespace<KubeObject>(caller.token, namespace);
      if (found === null) return undefined;
      return found === undefined ? await this.#known.uidOf(namespace) : found.metadata.uid;
    };
    return await this.#uids.get(JSON.stringify([caller.key, namespace]), load, () => NAMESPACE_SECONDS);
  }

  async #listable(caller: Caller, name: string, resource: Resource): Promise<string | undefined> {
    return (await this.may(caller, { verb: 'list', namespace: name, resource })) ? await this.uidOf(caller, name) : undefined;
  }

  /** Most rules name no objects: one question answers for the whole namespace, and only if it says no the name is asked for. */
  async #mayGetIn(caller: Caller, { namespace, name }: Owned, resource: Resource): Promise<boolean> {
    const question = { verb: 'get', namespace, resource };
    return (await this.may(caller, question)) || (await this.may(caller, { ...question, name }));
  }
}

export const inScope = (scope: Scope, namespaceUid: string): boolean => scope === 'all' || scope.includes(namespaceUid);
