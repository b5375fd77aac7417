import type { KubeObject } from '@crucible/operator/kube';
import type { AccessQuestion, Cluster } from '../cluster.ts';
import { forbidden, type Problem } from '../problems.ts';
import type { Caller } from './authenticator.ts';
import { TtlCache } from './ttl-cache.ts';

/** What a caller may list, by UID of the namespaces; or everything, also of namespaces that are gone. */
export type Scope = 'all' | readonly string[];

/** What the record knows of namespaces. */
export interface KnownNamespaces {
  /** Of those that exist. */
  names(): Promise<readonly string[]>;
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

  async may(caller: Caller, question: AccessQuestion): Promise<boolean> {
    const key = JSON.stringify([caller.key, question.verb, question.namespace, question.resource, question.name ?? '']);
    return await this.#answers.get(key, () => this.#cluster.mayThey(caller.identity, question), () => ANSWER_SECONDS);
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
  async mayGet(caller: Caller, owned: Owned, resource: Resource = 'evaluations'): Promise<boolean> {
    if (await this.may(caller, { verb: 'get', namespace: '', resource })) return true;
    if (!(await this.#mayGetIn(caller, owned, resource))) return false;
    const found = await this.uidOf(caller, owned.namespace);
    return typeof found === 'object' && found.uid === owned.namespaceUid;
  }

  /**
   * The namespace's UID now, as the cluster tells the caller. Never the record's: it only follows what the operator has told,
   * and an operator that is away tells nothing of a namespace that was made again.
   */
  async uidOf(caller: Caller, namespace: string): Promise<NamespaceUid> {
    const load = () => this.freshUidOf(caller, namespace);
    return await this.#uids.get(JSON.stringify([caller.key, namespace]), load, () => NAMESPACE_SECONDS);
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
  async #mayGetIn(caller: Caller, { namespace, name }: Owned, resource: Resource): Promise<boolean> {
    const question = { verb: 'get', namespace, resource };
    return (await this.may(caller, question)) || (await this.may(caller, { ...question, name }));
  }
}

export const inScope = (scope: Scope, namespaceUid: string): boolean => scope === 'all' || scope.includes(namespaceUid);
