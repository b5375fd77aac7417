/**
 * The drill on the real cluster: what it finds, and that admission closes and reopens with it. That each of its probes can
 * find a breach at all is shown in weak-pods.test.ts. What takes enforcement away is the native cluster's own (deploy/local/netpol), so it is only done there.
 */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Check } from '../../operator/src/drill/attack.ts';
import { smuggling } from '../../operator/src/drill/catalogue/smuggling.ts';
import { smuggle, sweepSmuggled } from '../../operator/src/drill/smuggling.ts';
import { KubeClient, loadAccess, withoutCredentials } from '../../operator/src/kube/index.ts';
import { apply, condition, evaluation, eventually, getJson, NAMESPACE, ok, uniqueName, waitFor } from './cluster.ts';

const ROOT = join(import.meta.dirname, '../..');
const RUN = '/run/crucible';
const native = existsSync(`${RUN}/commands/netpol`);
/** From the loss of enforcement to a closed admission. */
const CLOSE_SECONDS = 60;
/** About 70 s on two free cores; other work may run beside it. */
const DRILL_SECONDS = 400;
const command = promisify(execFile);

interface Status {
  status?: { phase?: string; classes?: { runtimeClassName: string; rules: { rule: number; outcome: string; evidence: string }[] }[] };
}

async function quickDrill(): Promise<Status['status']> {
  const name = uniqueName('quick');
  await apply({ apiVersion: 'crucible.dev/v1alpha1', kind: 'SecurityDrill', metadata: { name }, spec: { kind: 'Quick', defaultRuntime: true, runtimeClassNames: [] } });
  await ok(['wait', '--for=condition=Finished', `securitydrill/${name}`, '--timeout=100s']);
  return (await getJson<Status>(['securitydrill', name])).status;
}

const outcomes = (status: Status['status'], outcome: string): number[] =>
  (status?.classes ?? []).flatMap(({ rules }) => rules.filter((rule) => rule.outcome === outcome).map(({ rule }) => rule));

/** As `make up` starts and stops its processes. */
const processes = (script: string) =>
  command('bash', ['-c', `source deploy/local/lib.sh; source deploy/local/native/processes.sh; ${script}`], { cwd: ROOT });
const stopEngine = () => processes('end netpol');
const startEngine = () => processes(`run netpol ${readFileSync(`${RUN}/commands/netpol`, 'utf8').trim()}`);

/** Submitted anew until one is not started: what was admitted before the drill knew runs to its end. */
async function closed(seconds: number): Promise<string> {
  return await eventually('admission is closed', seconds, async () => {
    const name = uniqueName('gate');
    await apply(evaluation(name, { runtime: 'bash', code: 'true' }));
    const seen = await eventually('a decision', 30, async () => {
      const found = await getJson<Awaited<ReturnType<typeof waitFor>>>(['evaluation', name, '-n', NAMESPACE]);
      const accepted = condition(found, 'Accepted');
      return accepted && { reason: accepted.reason, message: accepted.message };
    });
    await ok(['delete', 'evaluation', name, '-n', NAMESPACE, '--wait=false']);
    return /^Drill(Failed|Incomplete)$|DefaultDenyMissing|ForeignNetworkPolicy/.test(seen.reason) ? `${seen.reason}: ${seen.message}` : undefined;
  });
}

async function reopened(): Promise<void> {
  const name = uniqueName('reopened');
  await apply(evaluation(name, { runtime: 'bash', code: 'true' }));
  expect((await waitFor(name, 'Finished')).status?.phase).toBe('Succeeded');
}

describe('make drill', () => {
  it('attacks both runtime classes, and finds nothing broken and nothing open that is not on the list', async () => {
    const { stdout } = await command('node', ['deploy/local/drill.ts'], { cwd: ROOT, env: { ...process.env, DRILL_SECONDS: String(DRILL_SECONDS) } }).catch((error: { stdout?: string; stderr?: string }) => {
      throw new Error(`${error.stdout ?? ''}${error.stderr ?? ''}`);
    });
    console.log(stdout);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(native ? /^\d+ held, 0 broken, 0 open$/ : /^\d+ held, 0 broken, \d+ open$/);
    expect(stdout).toMatch(/ gvisor +held/);
    expect(stdout).toMatch(/ default +held/);
  }, (DRILL_SECONDS + 30) * 1000);
});

it('a class under which nothing starts: its drill ends soon, says why, and nobody waits behind it', async () => {
  const name = uniqueName('nowhere');
  await apply({ apiVersion: 'node.k8s.io/v1', kind: 'RuntimeClass', metadata: { name }, handler: 'nowhere-installed' });
  try {
    await apply({ apiVersion: 'crucible.dev/v1alpha1', kind: 'SecurityDrill', metadata: { name }, spec: { kind: 'Full', runtimeClassNames: [name] } });
    await ok(['wait', '--for=condition=Finished', `securitydrill/${name}`, '--timeout=80s']);
    const { status } = await getJson<Status>(['securitydrill', name]);
    expect(outcomes(status, 'broken')).toEqual([]);
    const open = status?.classes?.flatMap(({ rules }) => rules.filter(({ outcome }) => outcome === 'open'));
    expect(open?.length).toBeGreaterThan(20);
    for (const { evidence } of open ?? []) expect(evidence).toContain('no sandbox of this class starts');
  } finally {
    await ok(['delete', 'runtimeclass', name]);
    await ok(['delete', 'securitydrill', name, '--ignore-not-found']);
  }
});

describe.runIf(native)('without enforcement', () => {
  afterAll(() => startEngine());

  it('an engine that has merely ended opens nothing', async () => {
    await stopEngine();
    const status = await quickDrill();
    expect(outcomes(status, 'broken')).toEqual([]);
    // Not only not shown.
    expect(outcomes(status, 'held')).toEqual(expect.arrayContaining([15, 16, 18, 19, 20]));
  });

  it('with its rules gone too the drill breaks, admission closes within a minute, and reopens after', async () => {
    await command('nft', ['delete', 'table', 'inet', 'crucible_netpol']);
    const begun = Date.now();
    const message = await closed(CLOSE_SECONDS);
    expect(message).toMatch(/DrillFailed: .*rules? .*1[58]/);
    expect((Date.now() - begun) / 1000).toBeLessThan(CLOSE_SECONDS);
    await startEngine();
    await reopened();
  });

  it('a foreign NetworkPolicy closes its namespace until it is gone', async () => {
    const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'open-sesame', namespace: NAMESPACE } };
    await apply({ ...policy, spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{}] } });
    try {
      expect(await closed(30)).toContain('ForeignNetworkPolicy: NetworkPolicy open-sesame');
    } finally {
      await ok(['delete', 'networkpolicy', 'open-sesame', '-n', NAMESPACE]);
    }
    await reopened();
  });
});

describe.runIf(native)('smuggled pods', () => {
  const BINDING = 'crucible-sandbox-pods';
  const binding = ['validatingadmissionpolicybinding', BINDING];
  const base = uniqueName('smuggled');
  let saved: { metadata: Record<string, unknown> } | undefined;
  let client: KubeClient;
  let uid: string;

  beforeAll(async () => {
    // With the operator's own rights, and nobody else's.
    const token = (await ok(['create', 'token', 'crucible-operator', '-n', 'crucible-system'])).trim();
    const access = withoutCredentials(await loadAccess({ kubeconfig: process.env['KUBECONFIG'] }));
    const load = async () => ({ ...(await access.load()), headers: { authorization: `Bearer ${token}` } });
    client = new KubeClient({ access: { ...access, load }, logger: pino({ level: 'silent' }) });
    await apply(evaluation(base, { runtime: 'bash', code: 'sleep 150', timeoutSeconds: 160 }));
    uid = (await waitFor(base, 'Started')).metadata.uid!;
  });
  afterAll(async () => {
    if (saved !== undefined) await apply(saved);
    await client?.close();
    await ok(['delete', 'evaluation', base, '-n', NAMESPACE, '--ignore-not-found', '--wait=false']);
  });

  const tried = async (...what: string[]): Promise<Check[]> => {
    const { method } = smuggling;
    const smuggled = method.kind === 'smuggle' ? method.smuggled.filter((one) => what.includes(one.what)) : [];
    const mark = { client, namespace: NAMESPACE, label: 'crucible.dev/drill', drill: base };
    try {
      return await smuggle({ ...mark, signal: AbortSignal.timeout(120_000), now: Date.now }, uid, smuggled);
    } finally {
      await sweepSmuggled(mark);
    }
  };

  it('are found admitted while the policy on pods is not in force, and refused once it is again; nothing stays', async () => {
    expect(await tried('host name', 'hostPath')).toEqual([{ check: 'changed pods', blocked: true, detail: expect.stringContaining('4 refused, 3 by the rule meant for it') as string }]);
    saved = await getJson<{ metadata: Record<string, unknown> }>(binding);
    for (const field of ['resourceVersion', 'uid', 'creationTimestamp', 'generation', 'managedFields']) delete saved.metadata[field];
    await ok(['delete', ...binding]);
    const admitted = await eventually('it is found', 60, async () => {
      const [check] = await tried('host name');
      return check?.blocked === false ? check : undefined;
    });
    expect(admitted).toEqual({ check: 'host name', blocked: false, detail: 'its pod was admitted' });
    await apply(saved);
    saved = undefined;
    await eventually('it is refused again', 60, async () => ((await tried('host name'))[0]?.blocked === true ? true : undefined));
    await eventually('nothing is left', 60, async () => ((await ok(['get', 'jobs,pods', '-n', NAMESPACE, '-l', `crucible.dev/drill=${base}`, '-o', 'name'])) === '' ? true : undefined));
  });
});
