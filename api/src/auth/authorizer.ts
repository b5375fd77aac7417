import type { KubeObject } from '@crucible/operator/kube';
import { after, type Awaitable } from '@crucible/storage';
import type { AccessQuestion, Cluster } from '../cluster.ts';
import { forbidden, type Problem } from '../problems.ts';
import type { Caller } from './authenticator.ts';
import { TtlCache } from './ttl-cache.ts';

/** What a caller may list, by UID of the namespaces; or everything, also of namespaces that are gone. */
export type Scope = 'all' | readonly string[];

/** What the record knows of namespaces. */
export interface KnownNamespaces {
  /** Of those that exist. */
  names(): Awaitable<readonly string[]>;
  /** All that ever had the name. */
  uidsOf(name: string): Promise<readonly string[]>;
}

export interface Owned {
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
}

/** `none`: there is no such namespace. `hidden`: the caller may not look at it, so nobody can say which records are its. */
export type NamespaceUid = { readonly uid: string } | 'none' | 'hidden';

export const hiddenNamespace = (name: string): Problem =>
  forbidden(`you may not get namespace "${name}", and its UID says which records belong to it: ask for the ClusterRole crucible-viewer or crucible-researcher in it`);

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
  readonly #uids: TtlCache<NamespaceUid>;

  constructor(cluster: Cluster, known: KnownNamespaces, now: () => number) {
    this.#cluster = cluster;
    this.#known = known;
    this.#answers = new TtlCache(MAX_ANSWERS, now);
    this.#uids = new TtlCache(MAX_ANSWERS, now);
  }

  may(caller: Caller, question: AccessQuestion): Awaitable<boolean> {
    const { verb, resource, name = '', namespace } = question;
    // No two questions have the same: only the namespace, which comes last, may be anything that somebody asked for.
    const key = `${caller.key} ${verb} ${resource} ${name}/${namespace}`;
    return this.#answers.get(key, () => this.#cluster.mayThey(caller.identity, question), () => ANSWER_SECONDS);
  }

  async scope(caller: Caller, resource: Resource = 'evaluations'): Promise<Scope> {
    if (await this.may(caller, { verb: 'list', namespace: '', resource })) return 'all';
    const names = await this.#known.names();
    const found = await Promise.all(names.map((name) => this.#listable(caller, name, resource)));
    return found.flatMap((one) => (typeof one === 'object' ? [one.uid] : []));
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
    const found = await this.uidOf(caller, namespace);
    if (found === 'hidden') throw hiddenNamespace(namespace);
    return found === 'none' ? [] : [found.uid];
  }

  /** By the namespace's UID: one made again under an old name inherits nothing. */
  mayGet(caller: Caller, owned: Owned, resource: Resource = 'evaluations'): Awaitable<boolean> {
    return after(this.may(caller, { verb: 'get', namespace: '', resource }), (everywhere) =>
      everywhere || after(this.#mayGetIn(caller, owned, resource), (may) => may && this.#isStill(caller, owned)));
  }

  #isStill(caller: Caller, { namespace, namespaceUid }: Owned): Awaitable<boolean> {
    return after(this.uidOf(caller, namespace), (found) => typeof found === 'object' && found.uid === namespaceUid);
  }

  /**
   * The namespace's UID now, as the cluster tells the caller. Never the record's: it only follows what the operator has told,
   * and an operator that is away tells nothing of a namespace that was made again.
   */
  uidOf(caller: Caller, namespace: string): Awaitable<NamespaceUid> {
    return this.#uids.get(`${caller.key} ${namespace}`, () => this.freshUidOf(caller, namespace), () => NAMESPACE_SECONDS);
  }

  /** The same, of this very moment. */
  async freshUidOf(caller: Caller, namespace: string): Promise<NamespaceUid> {
    const found = await this.#cluster.namespace<KubeObject>(caller.token, namespace);
    if (found === undefined) return 'hidden';
    return found?.metadata.uid === undefined ? 'none' : { uid: found.metadata.uid };
  }

  async #listable(caller: Caller, name: string, resource: Resource): Promise<NamespaceUid> {
    return (await this.may(caller, { verb: 'list', namespace: name, resource })) ? await this.uidOf(caller, name) : 'hidden';
  }

  /** Most rules name no objects: one question answers for the whole namespace, and only if it says no the name is asked for. */
  #mayGetIn(caller: Caller, { namespace, name }: Owned, resource: Resource): Awaitable<boolean> {
    const question = { verb: 'get', namespace, resource };
    return after(this.may(caller, question), (all) => all || this.may(caller, { ...question, name }));
  }
}

export const inScope = (scope: Scope, namespaceUid: string): boolean => scope === 'all' || scope.includes(namespaceUid);
