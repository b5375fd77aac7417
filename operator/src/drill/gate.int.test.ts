import { DrillRepository, listDrills } from '@crucible/storage';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from '../evaluation/testing/cluster.ts';
import type { Finding } from './attack.ts';
import { openFinding } from './attack.ts';
import { CATALOGUE, QUICK } from './catalogue/index.ts';
import type { DrillInputs } from './drill.ts';
import { DrillManager } from './manager.ts';
import { DrillMetrics } from './metrics.ts';
import { SecurityDrills } from './security-drills.ts';
import type { SentinelOptions } from './sentinel.ts';

// The gate as it is, with a real API server and Postgres around it. Only what sandboxes would have answered is played:
// there is no kubelet here.

type Script = (inputs: DrillInputs) => Promise<Finding[]>;

const held: Script = async ({ attacks }) =>
  attacks.map(({ id, rule }) => ({ attack: id, rule, outcome: 'held', evidence: 'played' }));
const broken =
  (attack: string): Script =>
  async (inputs) =>
    (await held(inputs)).map((finding) =>
      finding.attack === attack ? { ...finding, outcome: 'broken', evidence: 'it answered' } : finding,
    );

const unclear =
  (attack: string): Script =>
  async (inputs) =>
    (await held(inputs)).map((finding) =>
      finding.attack === attack ? { ...finding, outcome: 'open', evidence: 'no control' } : finding,
    );

const NETWORK_POLICIES = '/apis/networking.k8s.io/v1/namespaces';
const DRILLS = '/apis/crucible.dev/v1alpha1/securitydrills';

class DrilledCluster extends TestCluster {
  registry = new Registry();
  script: Script = () => new Promise<never>(() => {});
  /** Of the manager's clock. */
  aheadMs = 0;
  /** By class, what its sentinel would call. */
  readonly sentinels = new Map<string, SentinelOptions>();
  runs: string[] = [];
  manager: DrillManager | undefined;
  requests: SecurityDrills | undefined;

  override async startOperator(): Promise<void> {
    // As in a new process.
    this.registry = new Registry();
    const parts = await this.parts();
    const logger = pino({ level: 'silent' });
    this.manager = new DrillManager({
      ...parts,
      drills: new DrillRepository(this.record),
      settings: {
        enabled: true,
        namespace: undefined,
        runtime: this.runtime,
        controlUrl: undefined,
        retrySeconds: 1,
        fullEverySeconds: 0,
        watch: true,
        metadataAddresses: [],
        acceptedRisks: [{ runtimeClass: 'weak', rules: [15], reason: 'it is a test' }],
      },
      evaluationNamespaces: [this.namespace],
      defaultClass: undefined,
      askControl: async () => ({ problem: 'played' }),
      askPeer: async () => ({ blocked: null, detail: 'played' }),
      metrics: new DrillMetrics(this.registry),
      logger,
      now: () => Date.now() + this.aheadMs,
      sentinel: async (options) => {
        this.sentinels.set(options.runtimeClass ?? '', options);
        await new Promise((resolve) => options.signal.addEventListener('abort', resolve));
      },
      drill: async (inputs) => {
        this.runs.push(inputs.runtimeClass ?? '');
        const stopped = new Promise<never>((_, reject) =>
          inputs.signal.addEventListener('abort', () => reject(new Error('stopping'))),
        );
        return await Promise.race([this.script(inputs), stopped]);
      },
    });
    this.gate = this.manager;
    this.requests = new SecurityDrills({
      ...parts,
      drills: parts.caches.drills,
      manager: this.manager,
      logger,
      now: () => Date.now(),
    });
    await super.startOperator();
    await this.manager.start(this.epoch);
    await this.requests.start();
  }

  override async stopOperator(): Promise<void> {
    await Promise.all([this.manager?.stop(), this.requests?.stop()]);
    await super.stopOperator();
  }

  policies(name = ''): string {
    return `${NETWORK_POLICIES}/${this.namespace}/networkpolicies${name && `/${name}`}`;
  }

  async policy(name: string, spec: object): Promise<void> {
    await this.must('POST', this.policies(), {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name },
      spec,
    });
  }

  defaultDeny(): Promise<void> {
    return this.policy('crucible-default-deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
  }

  async metric(name: string): Promise<number> {
    const line = (await this.registry.metrics()).split('\n').find((text) => text.startsWith(`${name} `));
    return Number(line?.split(' ')[1]);
  }
}

const cluster = new DrilledCluster();
beforeAll(async () => {
  await cluster.start();
  await cluster.defaultDeny();
});
afterAll(() => cluster.stop());

const waits = (name: string, reason: string) => cluster.condition(name, 'Accepted', reason);

describe('admission', () => {
  it('waits for the first drill, then begins by itself', async () => {
    await cluster.submit('first');
    const pending = await waits('first', 'DrillPending');
    expect(pending['status']).toBe('Unknown');
    expect((await cluster.status('first')).queue).toMatchObject({
      reason: 'DrillPending',
      message: expect.stringContaining('first drill') as string,
    });
    expect(await cluster.jobs('first')).toEqual([]);
    expect(await cluster.metric('crucible_drill_closed_runtime_classes')).toBe(1);
    cluster.script = held;
    await cluster.stopOperator();
    await cluster.startOperator();
    await cluster.phase('first', 'Starting');
    expect(await cluster.metric('crucible_drill_closed_runtime_classes')).toBe(0);
  });

  it('closes when a rule is broken, names it, tells of it, and reopens after the next drill that holds', async () => {
    cluster.script = broken('egress');
    await cluster.manager!.run(undefined, QUICK, 'request');
    await cluster.submit('second');
    const failed = await waits('second', 'DrillFailed');
    expect(failed['message']).toContain('rule 15 broken: it answered');
    expect(await cluster.jobs('second')).toEqual([]);
    await cluster.waitFor('a warning', async () => {
      const { items } = await cluster.must('GET', cluster.core('events'));
      const found = items.filter(
        (event: { type: string; reason: string }) => event.type === 'Warning' && event.reason === 'DrillFailed',
      );
      const kinds = found.map((event: { involvedObject: { kind: string } }) => event.involvedObject.kind);
      return kinds.includes('Namespace') && kinds.includes('Evaluation') ? true : undefined;
    });
    // Nobody asks for it: it is repeated while it is closed.
    cluster.script = held;
    await cluster.phase('second', 'Starting');
  });

  it('drills a class when it is first used, and admits it by that alone', async () => {
    cluster.script = async (inputs) =>
      inputs.runtimeClass === 'other' ? await broken('kernel')(inputs) : await held(inputs);
    for (const name of ['other', 'weak'])
      await cluster
        .must('POST', '/apis/node.k8s.io/v1/runtimeclasses', {
          apiVersion: 'node.k8s.io/v1',
          kind: 'RuntimeClass',
          metadata: { name },
          handler: name,
        })
        .catch(() => {});
    await cluster.submit('third', { isolation: { runtimeClassName: 'other' } });
    expect((await waits('third', 'DrillFailed'))['message']).toContain('RuntimeClass other found rule 30 broken');
    await cluster.submit('fourth');
    await cluster.phase('fourth', 'Starting');
  });

  it('lets a weaker class through that is accepted by name, and says so', async () => {
    cluster.script = broken('egress');
    await cluster.submit('fifth', { isolation: { runtimeClassName: 'weak' } });
    await cluster.phase('fifth', 'Starting');
    const accepted = await waits('fifth', 'AdmittedWithAcceptedRisk');
    expect(accepted['message']).toContain('rules 15');
    expect(accepted['message']).toContain('it is a test');
    const { rows } = await cluster.record.query<{ accepted_risks: unknown }>(
      `select accepted_risks from crucible.attempts a join crucible.evaluations e on e.uid = a.evaluation_uid where e.name = 'fifth'`,
    );
    expect(rows).toEqual([{ accepted_risks: [{ rules: [15], reason: 'it is a test' }] }]);
    cluster.script = held;
  });

  it('keeps every drill with its findings', async () => {
    const history = await cluster.waitFor('the history', async () => {
      const list = (await listDrills(cluster.record)).items;
      return list.some(({ outcome }) => outcome === 'broken') && list.some(({ outcome }) => outcome === 'held')
        ? list
        : undefined;
    });
    const failed = history.find(({ runtimeClass, outcome }) => runtimeClass === null && outcome === 'broken')!;
    const details = await new DrillRepository(cluster.record).get(failed.id);
    expect(details?.findings.find(({ attack }) => attack === 'egress')).toMatchObject({
      rule: 15,
      outcome: 'broken',
      evidence: 'it answered',
    });
    expect(details?.findings).toHaveLength(QUICK.length);
    const latest = await new DrillRepository(cluster.record).latest();
    expect(new Set(latest.map(({ runtimeClass }) => runtimeClass))).toEqual(new Set([null, 'other', 'weak']));
  });
});

describe('rule 31', () => {
  it('a foreign policy closes the namespace until it is gone, and is named', async () => {
    await cluster.policy('open-sesame', { podSelector: {}, policyTypes: ['Egress'], egress: [{}] });
    // Until the watch has brought it; nothing is admitted by chance in between.
    await cluster.waitFor('a closed namespace', async () =>
      (await cluster.metric('crucible_drill_closed_namespaces')) === 1 ? true : undefined,
    );
    await cluster.submit('sixth');
    expect((await waits('sixth', 'ForeignNetworkPolicy'))['message']).toContain('open-sesame');
    expect(await cluster.jobs('sixth')).toEqual([]);
    await cluster.must('DELETE', cluster.policies('open-sesame'));
    await cluster.phase('sixth', 'Starting');
  });

  it('without the default-deny policy nothing is admitted', async () => {
    await cluster.must('DELETE', cluster.policies('crucible-default-deny'));
    await cluster.waitFor('a closed namespace', async () =>
      (await cluster.metric('crucible_drill_closed_namespaces')) === 1 ? true : undefined,
    );
    await cluster.submit('seventh');
    await waits('seventh', 'DefaultDenyMissing');
    await cluster.defaultDeny();
    await cluster.phase('seventh', 'Starting');
  });

  it('a change of policies is followed by a drill', async () => {
    const before = cluster.runs.length;
    await cluster.policy('quiet', { podSelector: {}, policyTypes: ['Egress'], egress: [] });
    await cluster.waitFor('a drill', async () => (cluster.runs.length > before ? true : undefined));
  });
});

describe('a SecurityDrill', () => {
  const ask = async (spec: object) =>
    (
      await cluster.must('POST', DRILLS, {
        apiVersion: 'crucible.dev/v1alpha1',
        kind: 'SecurityDrill',
        metadata: { generateName: 'test-' },
        spec,
      })
    )['metadata'].name as string;
  const finished = (name: string) =>
    cluster.waitFor('the report', async () => {
      const { status } = await cluster.must('GET', `${DRILLS}/${name}`);
      return status?.conditions?.some((one: { type: string }) => one.type === 'Finished') ? status : undefined;
    });

  it('reports rule by rule and class by class, and what it finds counts for admission', async () => {
    cluster.script = async (inputs) =>
      inputs.runtimeClass === 'weak' ? await broken('forks')(inputs) : await held(inputs);
    const name = await ask({ runtimeClassNames: ['weak'], defaultRuntime: true });
    const status = await finished(name);
    expect(status).toMatchObject({ phase: 'Broken', broken: 1 });
    expect(
      status.classes.map((one: { runtimeClassName: string; broken: number }) => [one.runtimeClassName, one.broken]),
    ).toEqual([
      ['', 0],
      ['weak', 1],
    ]);
    expect(status.classes[1].rules.find((one: { rule: number }) => one.rule === 22)).toMatchObject({
      outcome: 'broken',
      evidence: 'it answered',
    });
    await cluster.submit('eighth', { isolation: { runtimeClassName: 'weak' } });
    expect((await waits('eighth', 'DrillFailed'))['message']).toContain('rule 22');
    // The attack that found it is repeated with the quick ones, though it is none of them.
    cluster.script = held;
    await cluster.phase('eighth', 'Starting');
    await cluster.must('DELETE', `${DRILLS}/${name}`);
  });

  it('goes on when its class is taken away while it is drilled, and says that it is gone', async () => {
    const classes = '/apis/node.k8s.io/v1/runtimeclasses';
    const vanishing = { apiVersion: 'node.k8s.io/v1', kind: 'RuntimeClass', metadata: { name: 'vanishing' }, handler: 'x' };
    await cluster.must('POST', classes, vanishing);
    const known = () => cluster.current.caches.runtimeClasses.get('vanishing') !== undefined;
    await cluster.waitFor('the class to be seen', async () => known() || undefined);
    cluster.script = async (inputs) => {
      if (inputs.runtimeClass !== 'vanishing') return await held(inputs);
      await cluster.must('DELETE', `${classes}/vanishing`);
      await cluster.waitFor('its end to be seen', async () => !known() || undefined);
      return await held(inputs);
    };
    const name = await ask({ runtimeClassNames: ['vanishing'] });
    const status = await finished(name);
    expect(status).toMatchObject({ phase: 'Failed', held: 0, broken: 0 });
    for (const { outcome, evidence } of status.classes[0].rules)
      expect([outcome, evidence]).toEqual(['open', 'the cluster has no RuntimeClass vanishing']);
    // Nobody goes on drilling it.
    cluster.script = held;
    const before = cluster.runs.length;
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(cluster.runs.slice(before)).not.toContain('vanishing');
    expect(cluster.manager!.knownClasses()).not.toContain('vanishing');
    await cluster.must('DELETE', `${DRILLS}/${name}`);
  });

  it('what answers a sandbox closes its class at once, until a drill that began later holds', async () => {
    cluster.script = held;
    await cluster.manager!.run(undefined, QUICK, 'request');
    const sentinel = await cluster.waitFor('a sentinel', async () => cluster.sentinels.get(''));
    let end = (): void => {};
    let begun = false;
    cluster.script = async (inputs) => {
      begun = true;
      await new Promise<void>((resolve) => (end = resolve));
      return await held(inputs);
    };
    const slow = cluster.manager!.run(undefined, CATALOGUE, 'request');
    await cluster.waitFor('a drill that runs', async () => begun || undefined);
    sentinel.onAnswer(['tcp 10.0.0.1:8099']);
    const pending = { state: 'closed', closed: { reason: 'DrillPending', message: expect.stringContaining('answered a sandbox') as string } };
    expect(cluster.manager!.stateOf(undefined)).toMatchObject(pending);
    begun = false;
    end();
    await slow;
    expect(cluster.manager!.stateOf(undefined)).toMatchObject(pending);
    await cluster.waitFor('the drill that follows', async () => begun || undefined);
    end();
    await cluster.waitFor('an open class', async () => cluster.manager!.stateOf(undefined)?.state === 'open' || undefined);
    cluster.script = held;
  });

  it('refuses a changed spec', async () => {
    const name = await ask({ kind: 'Quick', defaultRuntime: true, runtimeClassNames: [] });
    await expect(
      cluster.must('PATCH', `${DRILLS}/${name}`, { spec: { kind: 'Full' } }, 'application/merge-patch+json'),
    ).rejects.toThrow(/create another SecurityDrill/);
    await finished(name);
    await cluster.must('DELETE', `${DRILLS}/${name}`);
  });

  it('a drill that cannot be run closes nothing for five minutes, and opens nothing', async () => {
    const nothing: Script = async ({ attacks }) => attacks.map((attack) => openFinding(attack, 'no room'));
    const after = async (minutes: number, script: Script): Promise<string | undefined> => {
      cluster.aheadMs += minutes * 60_000;
      cluster.script = script;
      await cluster.manager!.run(undefined, QUICK, 'request');
      const state = cluster.manager!.stateOf(undefined)!;
      return state.state === 'open' ? 'open' : state.closed.reason;
    };
    expect(await after(0, held)).toBe('open');
    // However long ago the last one held.
    expect(await after(600, nothing)).toBe('open');
    expect(await after(4, nothing)).toBe('open');
    expect(await after(2, nothing)).toBe('DrillIncomplete');
    expect(await after(0, held)).toBe('open');
    expect(await after(0, nothing)).toBe('open');
    expect(await after(0, held)).toBe('open');
    // Of the full drill alone: whoever drills quickly would never show it.
    cluster.script = unclear('other-protocols');
    await cluster.manager!.run(undefined, CATALOGUE, 'request');
    expect(await after(10, held)).toBe('open');
    await cluster.manager!.run('never', QUICK, 'request');
    expect(cluster.manager!.stateOf('never')).toMatchObject({ state: 'closed', closed: { reason: 'DrillIncomplete' } });
    cluster.script = held;
  });
});

describe('what an operator leaves of its drills', () => {
  it('is deleted by the next one, wherever that was: evaluations, and Jobs with what holds their pods', async () => {
    await cluster.stopOperator();
    const elsewhere = `${cluster.namespace}-other`;
    await cluster.must('POST', '/api/v1/namespaces', { metadata: { name: elsewhere } });
    const labels = { 'crucible.dev/drill': 'earlier' };
    const evaluations = `/apis/crucible.dev/v1alpha1/namespaces/${elsewhere}/evaluations`;
    await cluster.must('POST', evaluations, {
      apiVersion: 'crucible.dev/v1alpha1',
      kind: 'Evaluation',
      metadata: { name: 'sentinel', labels },
      spec: { runtime: cluster.runtime, code: 'x' },
    });
    const spec = { restartPolicy: 'Never', containers: [{ name: 'sandbox', image: 'x' }] };
    const template = { metadata: { labels, finalizers: ['crucible.dev/capture'] }, spec };
    const jobs = `/apis/batch/v1/namespaces/${cluster.namespace}/jobs`;
    await cluster.must('POST', jobs, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'smuggled', labels },
      spec: { backoffLimit: 0, template },
    });
    await cluster.must('POST', cluster.core('pods'), {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...template.metadata, name: 'smuggled' },
      spec,
    });
    await cluster.startOperator();
    await cluster.waitFor('nothing to be left', async () => {
      const left = [
        ...(await cluster.must('GET', evaluations))['items'],
        ...(await cluster.must('GET', `${jobs}?labelSelector=crucible.dev/drill`))['items'],
      ];
      return left.length === 0 ? true : undefined;
    });
    await cluster.waitFor('the pod to be let go', async () =>
      (await cluster.pod('smuggled'))?.['metadata'].finalizers === undefined ? true : undefined,
    );
  });
});

describe('what is known of a class', () => {
  it('what only the full drill had found broken outlives the operator that found it', async () => {
    cluster.script = broken('forks');
    await cluster.manager!.run('weak', CATALOGUE, 'request');
    const restarted = async (script: Script): Promise<unknown> => {
      cluster.script = script;
      await cluster.stopOperator();
      await cluster.startOperator();
      cluster.manager!.want('weak');
      await cluster.manager!.run('weak', QUICK, 'request');
      const state = cluster.manager!.stateOf('weak')!;
      return state.state === 'open' ? 'open' : state.closed.message;
    };
    const closed = expect.stringContaining('rule 22 broken: it answered') as string;
    expect(await restarted(unclear('forks'))).toEqual(closed);
    // An attack without a result, recorded by the leader before, shows nothing either.
    expect(await restarted(unclear('forks'))).toEqual(closed);
    // It is repeated with the quick ones by the new leader too, and holds.
    cluster.script = held;
    await cluster.waitFor('an open class', async () =>
      cluster.manager!.stateOf('weak')?.state === 'open' ? true : undefined,
    );
    expect(await restarted(held)).toBe('open');
  });

  it('broken stays so until it is shown to hold: an attack that does not come to its end shows nothing', async () => {
    const states: unknown[] = [];
    for (const script of [held, broken('egress'), unclear('egress'), held]) {
      cluster.script = script;
      await cluster.manager!.run(undefined, QUICK, 'request');
      const state = cluster.manager!.stateOf(undefined)!;
      states.push(state.state === 'open' ? 'open' : state.closed.reason);
    }
    expect(states).toEqual(['open', 'DrillFailed', 'DrillFailed', 'open']);
  });
});
