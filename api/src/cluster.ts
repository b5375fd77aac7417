import { randomUUID } from 'node:crypto';
import { PAUSE_CONFIG_MAP } from '@crucible/crds';
import { CONFIG_MAPS, EVALUATIONS, EVALUATION_RUNTIMES, KubeError, NAMESPACES, RUNTIME_CLASSES, isForbidden, isNotFound } from '@crucible/operator/kube';
import type { KubeClient, KubeObject, Resource } from '@crucible/operator/kube';

const TOKEN_REVIEWS: Resource = { group: 'authentication.k8s.io', version: 'v1', plural: 'tokenreviews', kind: 'TokenReview', namespaced: false };
const ACCESS_REVIEWS: Resource = { group: 'authorization.k8s.io', version: 'v1', plural: 'subjectaccessreviews', kind: 'SubjectAccessReview', namespaced: false };
const FIELD_MANAGER = 'crucible-api';
const TIMEOUT_MS = 10_000;

/** Who the cluster says a token belongs to. */
export interface Identity {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

export interface AccessQuestion {
  readonly verb: string;
  /** Empty: in all namespaces. */
  readonly namespace: string;
  readonly resource: string;
  readonly name?: string | undefined;
}

/**
 * The API server, in two roles that cannot be confused: with this process's own credentials it only asks who somebody is
 * and what they may do; everything else is done by a client without credentials, with the caller's token.
 */
export class Cluster {
  readonly #own: KubeClient;
  readonly #callers: KubeClient;

  constructor(own: KubeClient, callers: KubeClient) {
    this.#own = own;
    this.#callers = callers;
  }

  /** Undefined: not a token of this cluster, or not any more. */
  async whoIs(token: string): Promise<Identity | undefined> {
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', metadata: {}, spec: { token } };
    const { status } = await this.#own.create<Review<TokenStatus>>(TOKEN_REVIEWS, review as never, { timeoutMs: TIMEOUT_MS });
    const user = status.user;
    if (status.authenticated !== true || !user?.username) return undefined;
    return { username: user.username, uid: user.uid ?? '', groups: user.groups ?? [], extra: user.extra ?? {} };
  }

  async mayThey({ username, uid, groups, extra }: Identity, question: AccessQuestion): Promise<boolean> {
    const resourceAttributes = { group: EVALUATIONS.group, ...question };
    const spec = { user: username, uid, groups, extra, resourceAttributes };
    const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', metadata: {}, spec };
    const { status } = await this.#own.create<Review<{ allowed?: boolean; denied?: boolean }>>(ACCESS_REVIEWS, review as never, { timeoutMs: TIMEOUT_MS });
    return status.allowed === true && status.denied !== true;
  }

  /** What the API server made of it: with its UID and its defaults. */
  createEvaluation<T extends KubeObject>(token: string, evaluation: T, dryRun = false): Promise<T & KubeObject> {
    return this.#callers.create(EVALUATIONS, evaluation, { ...this.#as(token), fieldManager: FIELD_MANAGER, dryRun });
  }

  getEvaluation<T extends KubeObject>(token: string, namespace: string, name: string): Promise<T> {
    return this.#callers.get<T>(EVALUATIONS, namespace, name, this.#as(token));
  }

  /** Fails with a conflict when another Evaluation has the name now. */
  cancelEvaluation(token: string, { namespace, name, uid }: { namespace: string; name: string; uid: string }): Promise<KubeObject> {
    const patch = { metadata: { uid }, spec: { cancel: true } };
    return this.#callers.mergePatch(EVALUATIONS, namespace, name, patch, { ...this.#as(token), fieldManager: FIELD_MANAGER });
  }

  /** Undefined: the caller may not look at the namespace, so somebody else has to know. Null: it does not exist. */
  namespace<T extends KubeObject>(token: string, name: string): Promise<T | null | undefined> {
    return this.#look<T>(NAMESPACES, token, undefined, name);
  }

  /** The same, of an EvaluationRuntime. */
  runtime<T extends KubeObject>(token: string, name: string): Promise<T | null | undefined> {
    return this.#look<T>(EVALUATION_RUNTIMES, token, undefined, name);
  }

  async runtimes<T extends KubeObject>(token: string): Promise<T[]> {
    return (await this.#callers.list<T>(EVALUATION_RUNTIMES, this.#as(token))).items;
  }

  /** Undefined: the caller may not list them. */
  async runtimeClasses(token: string): Promise<string[] | undefined> {
    try {
      const { items } = await this.#callers.list(RUNTIME_CLASSES, this.#as(token));
      return items.flatMap(({ metadata }) => metadata.name ?? []);
    } catch (error) {
      if (isForbidden(error)) return undefined;
      throw error;
    }
  }

  /** The same, of the switch in a namespace. */
  pauseSwitch<T extends KubeObject>(token: string, namespace: string): Promise<T | null | undefined> {
    return this.#look<T>(CONFIG_MAPS, token, namespace, PAUSE_CONFIG_MAP);
  }

  /** The switch is the operator's: a ConfigMap that the chart makes, in an evaluation namespace or in Crucible's own. */
  setPaused(token: string, namespace: string, paused: boolean, reason: string): Promise<KubeObject> {
    const patch = { data: { paused: String(paused), reason } };
    return this.#callers.mergePatch(CONFIG_MAPS, namespace, PAUSE_CONFIG_MAP, patch, { ...this.#as(token), fieldManager: FIELD_MANAGER });
  }

  /** Throws while it cannot be reached, or refuses this process's own questions. */
  async check(): Promise<void> {
    await this.whoIs(`crucible-readiness-${randomUUID()}`);
  }

  async close(): Promise<void> {
    await Promise.all([this.#own.close(), this.#callers.close()]);
  }

  async #look<T extends KubeObject>(resource: Resource, token: string, namespace: string | undefined, name: string): Promise<T | null | undefined> {
    try {
      return await this.#callers.get<T>(resource, namespace, name, this.#as(token));
    } catch (error) {
      if (isForbidden(error)) return undefined;
      if (isNotFound(error)) return null;
      throw error;
    }
  }

  #as(token: string): { token: string; timeoutMs: number } {
    if (token === '') throw new KubeError({ code: 401, reason: 'Unauthorized', message: 'no token' });
    return { token, timeoutMs: TIMEOUT_MS };
  }
}

interface TokenStatus {
  authenticated?: boolean;
  user?: { username?: string; uid?: string; groups?: string[]; extra?: Record<string, string[]> };
}
type Review<T> = KubeObject & { status: T };
