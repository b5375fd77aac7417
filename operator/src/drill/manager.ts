import { randomUUID } from 'node:crypto';
import type { ArtifactRepository, CaptureRepository, DrillRepository } from '@crucible/storage';
import type { Logger } from 'pino';
import type { ClusterCaches } from '../evaluation/caches.ts';
import type { RawEvaluation } from '../evaluation/snapshot.ts';
import type { EventRecorder, KubeClient } from '../kube/index.ts';
import type { Attack, DrillFacts, Finding } from './attack.ts';
import { countOutcomes, openFinding, scoreRules } from './attack.ts';
import { CATALOGUE, QUICK } from './catalogue/index.ts';
import { watchChanges } from './changes.ts';
import type { AskControl, AskPeer } from './control.ts';
import { runDrill } from './drill.ts';
import type { Entry } from './entry.ts';
import { newEntry } from './entry.ts';
import type { ClassState, Gate, GateKeeper } from './gate.ts';
import { classKey, className, doubted, judgeClass, pending } from './gate.ts';
import { groundOf } from './ground.ts';
import { DrillHistory } from './history.ts';
import type { ClassResult, Trigger } from './history.ts';
import { Knowledge } from './knowledge.ts';
import type { DrillMetrics } from './metrics.ts';
import { handlerOf, kernelsOf } from './nodes.ts';
import { policyProblem } from './policies.ts';
import { DrillRunner } from './runner.ts';
import { keepSentinel } from './sentinel.ts';
import type { DrillSettings } from './settings.ts';

export interface ManagerDependencies {
  readonly client: KubeClient;
  readonly caches: ClusterCaches;
  readonly captures: CaptureRepository;
  readonly artifacts: ArtifactRepository;
  readonly drills: DrillRepository;
  readonly events: EventRecorder;
  readonly settings: DrillSettings;
  readonly evaluationNamespaces: readonly string[];
  readonly defaultClass: string | undefined;
  readonly askControl: AskControl;
  readonly askPeer: AskPeer;
  readonly metrics: DrillMetrics;
  readonly logger: Logger;
  readonly now: () => number;
  /** Tests play a drill. */
  readonly drill?: typeof runDrill;
  readonly sentinel?: typeof keepSentinel;
}

/** Changes come in bursts: a Helm upgrade touches every policy. */
const SETTLE_MS = 1500;
/** A class that has held stays open while its drills cannot be completed (a full cluster, a control that restarts). */
const INCOMPLETE_GRACE_MS = 300_000;

interface Term {
  readonly epoch: number;
  readonly abort: AbortController;
  readonly runner: DrillRunner;
}

/**
 * Keeps every RuntimeClass in use drilled, and the gate as the drills say. A new leader drills anew; only what was found
 * broken it knows from the record.
 */
export class DrillManager implements GateKeeper {
  readonly #deps: ManagerDependencies;
  readonly #classes = new Map<string, Entry>();
  readonly #exempt = new Set<string>();
  readonly #listeners: ((key?: string) => void)[] = [];
  readonly #sentinels = new Set<Promise<void>>();
  readonly #history: DrillHistory;
  /** Must be shown for admission. Metadata addresses are only tried where somebody names them; until then 17 stays open. */
  readonly #required: ReadonlySet<number>;
  #term: Term | undefined;
  #schedule: NodeJS.Timeout | undefined;

  constructor(deps: ManagerDependencies) {
    this.#deps = deps;
    const { metadataAddresses } = deps.settings;
    const tried = QUICK.filter(({ id }) => id !== 'metadata' || metadataAddresses.length > 0);
    this.#required = new Set(tried.map(({ rule }) => rule));
    this.#history = new DrillHistory(deps.drills, deps.logger);
    watchChanges({
      ...deps,
      isLeader: () => this.#term !== undefined,
      onPolicies: () => this.#notify(),
      onChange: () => this.#changed(),
      onReplaced: (key) => this.#replaced(key),
    });
    deps.metrics.observe(() => ({
      closedClasses: [...this.#classes.values()].filter(({ state, wanted }) => wanted && state.state === 'closed').length,
      closedNamespaces: deps.evaluationNamespaces.filter((name) => this.#namespaceProblem(name) !== undefined).length,
    }));
  }

  // ---------------------------------------------------------------- the gate

  gate(raw: RawEvaluation): Gate {
    const { namespace = '', uid = '' } = raw.metadata;
    const classes = new Map([...this.#classes].map(([key, { state }]) => [key, state]));
    return { exempt: this.#exempt.has(uid), namespace: this.#namespaceProblem(namespace), classes };
  }

  want(runtimeClass: string | undefined): void {
    const key = classKey(runtimeClass);
    if (this.#term === undefined || this.#classes.get(key)?.wanted === true) return;
    this.#entry(key).wanted = true;
    this.#begin(key, 'need');
  }

  onChange(listener: (key?: string) => void): void {
    this.#listeners.push(listener);
  }

  #namespaceProblem(namespace: string): Gate['namespace'] {
    const problem = policyProblem(this.#deps.caches.policies.list(), namespace);
    return problem && { reason: problem.reason, message: problem.message.slice(0, 256) };
  }

  // ---------------------------------------------------------------- terms

  async start(epoch: number): Promise<void> {
    const { caches, settings, evaluationNamespaces, logger } = this.#deps;
    const runner = new DrillRunner({
      ...this.#deps,
      evaluations: caches.evaluations,
      pods: caches.pods,
      // Asked for anew each time: the namespace may go while this replica leads.
      get namespace() {
        return settings.namespace ?? groundOf(evaluationNamespaces, (name) => caches.namespaces.get(name));
      },
      runtime: settings.runtime,
      exempt: (key, uid) => {
        this.#exempt.add(uid);
        this.#notify(key);
      },
    });
    this.#term = { epoch, abort: new AbortController(), runner };
    for (const { runtimeClass, rules, reason } of settings.acceptedRisks)
      logger.warn(
        { runtimeClass: runtimeClass ?? '(default)', rules, reason },
        'a weaker sandbox is accepted by configuration',
      );
    void runner.remove(runner.leftovers());
    void runner.sweepSmuggled();
    if (evaluationNamespaces.length === 0) return;
    this.#entry(classKey(this.#deps.defaultClass)).wanted = true;
    this.#begin(classKey(this.#deps.defaultClass), 'start');
    if (settings.fullEverySeconds > 0) {
      this.#schedule = setInterval(() => void this.#full(), settings.fullEverySeconds * 1000);
      this.#schedule.unref();
    }
  }

  async stop(): Promise<void> {
    const term = this.#term;
    this.#term = undefined;
    clearInterval(this.#schedule);
    term?.abort.abort();
    for (const { timer } of this.#classes.values()) clearTimeout(timer);
    await Promise.allSettled([...[...this.#classes.values()].map(({ turn }) => turn), ...this.#sentinels]);
    this.#classes.clear();
    this.#exempt.clear();
  }

  /** The classes that are drilled so far, and those the cluster has. */
  knownClasses(): (string | undefined)[] {
    const keys = new Set([classKey(this.#deps.defaultClass), ...this.#classes.keys()]);
    for (const { metadata } of this.#deps.caches.runtimeClasses.list()) keys.add(metadata.name ?? '');
    return [...keys].filter((key) => this.#absence(key) === undefined).map((key) => (key === '' ? undefined : key));
  }

  /** Rules without which a class is not admitted; those that somebody has accepted are not asked for. */
  requiredOf(runtimeClass: string | undefined): ReadonlySet<number> {
    const mine = this.#deps.settings.acceptedRisks.filter((risk) => classKey(risk.runtimeClass) === classKey(runtimeClass));
    const accepted = new Set(mine.flatMap(({ rules }) => rules));
    return new Set([...this.#required].filter((rule) => !accepted.has(rule)));
  }

  stateOf(runtimeClass: string | undefined): ClassState | undefined {
    return this.#classes.get(classKey(runtimeClass))?.state;
  }

  // ---------------------------------------------------------------- drills

  /**
   * Runs these attacks on a class, after what runs of it, and takes the findings into account for its gate. Undefined: the
   * operator stops, or the class was replaced meanwhile.
   */
  run(
    runtimeClass: string | undefined,
    attacks: readonly Attack[],
    trigger: Trigger,
  ): Promise<ClassResult | undefined> {
    const entry = this.#entry(classKey(runtimeClass));
    const result = entry.turn.then(() => this.#run(entry, () => attacks, trigger));
    entry.turn = result.catch(() => {});
    return result;
  }

  #entry(key: string): Entry {
    const entry = this.#classes.get(key) ?? newEntry(key);
    this.#classes.set(key, entry);
    return entry;
  }

  #begin(key: string, trigger: Trigger, afterMs = 0): void {
    const entry = this.#entry(key);
    const dueAt = Date.now() + afterMs;
    // Whoever changes something every second does not put a drill off for ever.
    if (entry.timer !== undefined && entry.dueAt <= dueAt) return;
    clearTimeout(entry.timer);
    entry.dueAt = dueAt;
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      // One that has not begun yet will see whatever this one would.
      if (entry.waiting) return;
      entry.waiting = true;
      const result = entry.turn.then(() => {
        entry.waiting = false;
        return this.#run(entry, () => [...QUICK, ...entry.knowledge.brokenBeyond(QUICK)], trigger);
      });
      entry.turn = result.catch((error: unknown) =>
        this.#deps.logger.error({ err: error, runtimeClass: className(key) }, 'the drill could not be run'),
      );
    }, afterMs);
    entry.timer.unref();
  }

  async #full(): Promise<void> {
    for (const key of [...this.#classes.keys()])
      await this.run(key === '' ? undefined : key, CATALOGUE, 'schedule').catch(() => {});
    await this.#deps.drills.expire().catch(() => {});
  }

  async #run(entry: Entry, choose: () => readonly Attack[], trigger: Trigger): Promise<ClassResult | undefined> {
    const term = this.#term;
    if (term === undefined) return undefined;
    const { now, logger, metrics } = this.#deps;
    const id = randomUUID();
    const startedAt = new Date(now());
    const { generation } = entry;
    const obstacle = (await this.#recall(entry)) ?? this.#absence(entry.key);
    const attacks = choose();
    const findings =
      obstacle === undefined
        ? await this.#attack(term, entry, attacks, id)
        : attacks.map((attack) => openFinding(attack, obstacle));
    // Found of a runtime that has another one's name by now.
    if (term.abort.signal.aborted || entry.generation !== generation) return undefined;
    const finishedAt = new Date(now());
    entry.knowledge.learn(findings);
    const runtimeClass = entry.key === '' ? undefined : entry.key;
    const result = { id, runtimeClass, findings, startedAt, finishedAt };
    const counts = countOutcomes(scoreRules(findings));
    const seconds = (finishedAt.getTime() - startedAt.getTime()) / 1000;
    logger.info({ runtimeClass: className(entry.key), trigger, seconds, ...counts }, 'drill finished');
    metrics.finished(counts, seconds, this.#judge(entry, startedAt.getTime()).state === 'open');
    await this.#history.record(result, attacks, trigger, term.epoch);
    return result;
  }

  /** Nothing is judged before it is known what was found broken earlier; says why it is not. */
  async #recall(entry: Entry): Promise<string | undefined> {
    try {
      await entry.knowledge.recall(() => this.#history.broken(entry.key === '' ? undefined : entry.key));
      return undefined;
    } catch (error) {
      this.#deps.logger.warn({ err: error, runtimeClass: className(entry.key) }, 'earlier drills cannot be read');
      return `what earlier drills found cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Nothing runs under a class that the cluster does not have; when it comes it is drilled (see #replaced). */
  #absence(key: string): string | undefined {
    const has = key === '' || this.#deps.caches.runtimeClasses.get(key) !== undefined;
    return has ? undefined : `the cluster has no RuntimeClass ${key}`;
  }

  async #attack(term: Term, entry: Entry, attacks: readonly Attack[], id: string): Promise<Finding[]> {
    const runtimeClass = entry.key === '' ? undefined : entry.key;
    const { drill = runDrill, settings, askControl, askPeer, now } = this.#deps;
    try {
      return await drill({
        id,
        runtimeClass,
        attacks,
        facts: this.#facts(runtimeClass),
        metadataAddresses: settings.metadataAddresses,
        askControl,
        askPeer,
        runner: term.runner,
        signal: term.abort.signal,
        now,
      });
    } catch (error) {
      if (!term.abort.signal.aborted) this.#deps.logger.warn({ err: error }, 'the drill could not be completed');
      const message = error instanceof Error ? error.message : String(error);
      return attacks.map((attack) => openFinding(attack, `the drill could not be run: ${message}`));
    }
  }

  #facts(runtimeClass: string | undefined): DrillFacts {
    const { caches, evaluationNamespaces } = this.#deps;
    const policies = caches.policies.list();
    return {
      runtimeClass,
      handler: handlerOf(caches.runtimeClasses.list(), runtimeClass),
      kernels: kernelsOf(caches.nodes.list()),
      policies: evaluationNamespaces.flatMap((name) => policyProblem(policies, name)?.message ?? []),
      missingClass: undefined,
    };
  }

  #judge(entry: Entry, startedAt: number): ClassState {
    const { settings, now, logger } = this.#deps;
    // Policies close their own namespace at once; a class is about the sandboxes.
    // What only the full drill could not show would stay so until the next one.
    const counts = ({ attack, outcome }: Finding): boolean => outcome !== 'open' || QUICK.some(({ id }) => id === attack);
    const findings = entry.knowledge.findings().filter((one) => one.attack !== 'foreign-policies' && counts(one));
    const next = judgeClass(entry.key, findings, this.#required, settings.acceptedRisks);
    const before = entry.state;
    // What answered a sandbox after this drill began is another drill's matter, which follows.
    if (next.state === 'open' && startedAt <= entry.answeredAt) return before;
    if (next.state === 'open') this.#watchOver(entry);
    const incomplete = next.state === 'closed' && next.closed.reason === 'DrillIncomplete';
    entry.incompleteSince = incomplete ? (entry.incompleteSince ?? now()) : undefined;
    if (next.state === 'closed' && entry.wanted) this.#begin(entry.key, 'retry', settings.retrySeconds * 1000);
    // Only what has held is open.
    if (incomplete && before.state === 'open' && now() - entry.incompleteSince! < INCOMPLETE_GRACE_MS) return next;
    entry.state = next;
    if (JSON.stringify(before) === JSON.stringify(next)) return next;
    if (next.state === 'closed') {
      logger.error({ runtimeClass: className(entry.key), ...next.closed }, 'admission is closed');
      if (entry.wanted) this.#announce('Warning', next.closed.reason, next.closed.message);
    } else {
      logger.info({ runtimeClass: className(entry.key), risks: next.risks }, 'admission is open');
      if (entry.failed)
        this.#announce('Normal', 'DrillHeld', `The drill of ${className(entry.key)} holds again; admission is open.`);
    }
    entry.failed = next.state === 'closed';
    this.#notify();
    return next;
  }

  /** From its first held drill on, one sandbox of the class stays and tells when something answers it. */
  #watchOver(entry: Entry): void {
    const { settings, askControl, logger, now, sentinel: keep = keepSentinel } = this.#deps;
    const term = this.#term;
    if (!settings.watch || !entry.wanted || term === undefined || entry.watched) return;
    entry.watched = true;
    const { generation } = entry;
    const sentinel = keep({
      runtimeClass: entry.key === '' ? undefined : entry.key,
      runner: term.runner,
      askControl,
      signal: term.abort.signal,
      logger: logger.child({ runtimeClass: className(entry.key) }),
      now,
      wanted: () => this.#classes.get(entry.key) === entry && entry.generation === generation,
      onAnswer: () => {
        entry.answeredAt = now();
        // Closed at once: the drill that finds out more may have to wait for another one to end.
        if (entry.state.state === 'open') {
          entry.state = { state: 'closed', closed: doubted(entry.key) };
          this.#notify();
        }
        this.#begin(entry.key, 'change');
      },
    });
    this.#sentinels.add(sentinel);
    void sentinel.then(() => this.#sentinels.delete(sentinel));
  }

  /** In every evaluation namespace: that is where people look who wonder why nothing starts. */
  #announce(type: 'Normal' | 'Warning', reason: string, message: string): void {
    for (const name of this.#deps.evaluationNamespaces) {
      const found = this.#deps.caches.namespaces.get(name);
      if (found === undefined) continue;
      const { uid = '' } = found.metadata;
      this.#deps.events.event(
        { apiVersion: 'v1', kind: 'Namespace', metadata: { name, namespace: name, uid } },
        { type, reason, message },
      );
    }
  }

  // ---------------------------------------------------------------- changes

  /** Another runtime under the same name: nothing is known of it. */
  #replaced(key: string): void {
    const entry = this.#classes.get(key);
    if (entry === undefined || this.#term === undefined) return;
    entry.generation += 1;
    if (this.#absence(key) !== undefined) {
      clearTimeout(entry.timer);
      this.#classes.delete(key);
      return;
    }
    entry.knowledge = Knowledge.ofNothing();
    entry.watched = false;
    entry.state = { state: 'closed', closed: pending(key) };
    this.#notify();
    if (entry.wanted) this.#begin(key, 'change', SETTLE_MS);
  }

  #changed(): void {
    if (this.#term === undefined) return;
    for (const { key, wanted } of this.#classes.values()) if (wanted) this.#begin(key, 'change', SETTLE_MS);
  }

  #notify(key?: string): void {
    for (const listener of this.#listeners) listener(key);
  }
}
