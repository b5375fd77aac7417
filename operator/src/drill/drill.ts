import type { Attack, Check, DrillFacts, Finding, RunEnd } from './attack.ts';
import { judgeChecks, openFinding } from './attack.ts';
import type { Target } from './canary.ts';
import { PEER_PORT, TARGETS_EXPRESSION, TARGETS_FILE, canaryProgram } from './canary.ts';
import { judgeKernel } from './catalogue/kernel.ts';
import type { AskControl, AskPeer } from './control.ts';
import { inParallel } from './parallel.ts';
import { parseReport } from './report.ts';
import type { DrillRunner, Started } from './runner.ts';

/** From an evaluation's creation to its end in the record, on a busy cluster. */
const PATIENCE_MS = 90_000;
/** Sandboxes of one drill at once: its memory and processor time are other people's. */
const AT_ONCE = 3;

export interface DrillInputs {
  readonly id: string;
  readonly runtimeClass: string | undefined;
  readonly attacks: readonly Attack[];
  readonly facts: DrillFacts;
  readonly metadataAddresses: readonly string[];
  readonly askControl: AskControl;
  readonly askPeer: AskPeer;
  readonly runner: DrillRunner;
  readonly signal: AbortSignal;
  readonly now: () => number;
}

/** Every attack, against sandboxes of one RuntimeClass. Each gets a finding, whatever happens. */
export async function runDrill(inputs: DrillInputs): Promise<Finding[]> {
  const { attacks, runner, facts } = inputs;
  const started: Started[] = [];
  const begin = async (start: Promise<Started>): Promise<Started> => {
    const one = await start;
    started.push(one);
    return one;
  };
  try {
    const { targets, problem, peer } = await gatherTargets(inputs, begin);
    const found = new Map<string, Finding>();
    const inside = attacks.filter(({ method }) => method.kind === 'inside' || method.kind === 'reach');
    const alone = attacks.filter(({ method }) => method.kind === 'alone');
    const work = [
      ...(inside.length > 0 ? [() => runCanary(inputs, inside, targets, problem, begin)] : []),
      ...alone.map((attack) => () => runAlone(inputs, attack, targets, begin)),
      ...attacks.map((attack) => () => runSmuggling(inputs, attack, begin)),
      ...attacks.map((attack) => () => runIngress(inputs, attack, targets, peer)),
    ];
    // Where no sandbox starts the others would only wait as the second one did, and what is drilled next with them.
    const stuck = peer?.stuck === true;
    for (const findings of await inParallel(stuck ? [] : work, AT_ONCE))
      for (const finding of findings) found.set(finding.attack, finding);
    const missing = attacks.some(({ id }) => id === 'missing-class') ? await tryMissingClass(inputs, begin) : undefined;
    for (const attack of attacks) {
      if (attack.method.kind === 'facts')
        found.set(
          attack.id,
          judgeChecks(attack, [], attack.method.judge({ ...facts, missingClass: missing }), facts.handler),
        );
    }
    return attacks.map((attack) => found.get(attack.id) ?? openFinding(attack, stuck ? peer.problem : 'it was not run'));
  } finally {
    await runner.remove(started);
  }
}

type Begin = (start: Promise<Started>) => Promise<Started>;

interface Targets {
  readonly targets: readonly Target[];
  /** Why a group has none. */
  readonly problem: (group: string) => string;
  readonly peer: Peer | undefined;
}

interface Peer {
  readonly address: string | undefined;
  readonly problem: string;
  /** No sandbox of this class will start. */
  readonly stuck?: boolean;
}

/** The addresses that a control has just been answered by, and a second sandbox that answers itself. */
async function gatherTargets(inputs: DrillInputs, begin: Begin): Promise<Targets> {
  const { askControl, runner, id, runtimeClass, signal, now, metadataAddresses } = inputs;
  const wants = (group: string): boolean =>
    inputs.attacks.some(({ method }) =>
      method.kind === 'reach' ? method.group === group : method.kind === 'ingress' && group === 'peer',
    );
  const deadline = now() + PATIENCE_MS;
  const [control, peer] = await Promise.all([
    askControl(signal),
    wants('peer') ? startPeer(runner, id, runtimeClass, deadline, signal, begin) : undefined,
  ]);
  const targets: Target[] = 'targets' in control ? [...control.targets] : [];
  const target = (group: string, address: string, port: number): Target => ({
    name: `tcp ${address}:${port}`,
    group,
    protocol: 'tcp',
    address,
    port,
  });
  // Nobody of ours answers there, so the control is that the same probe is answered elsewhere at that moment.
  if (targets.length > 0) targets.push(...metadataAddresses.map((address) => target('metadata', address, 80)));
  if (peer?.address !== undefined) targets.push(target('peer', peer.address, PEER_PORT));
  const problem = (group: string): string => {
    if (group === 'peer') return peer?.problem ?? 'the second sandbox did not start';
    if ('problem' in control) return `no positive control: ${control.problem}`;
    if (group === 'metadata') return 'not tried: no address is named in drill.metadataAddresses';
    return 'no positive control: nothing of it answered the control pod';
  };
  return { targets, problem, peer };
}

async function startPeer(
  runner: DrillRunner,
  id: string,
  runtimeClass: string | undefined,
  deadline: number,
  signal: AbortSignal,
  begin: Begin,
): Promise<Peer> {
  const peer = await begin(runner.startPeer(id, runtimeClass, signal));
  const { address, stuck } = await runner.address(peer, deadline, signal);
  if (stuck !== undefined) return { address, problem: `no sandbox of this class starts: ${stuck}`, stuck: true };
  if (address === undefined) return { address, problem: 'the second sandbox did not start in time' };
  // Only one that answers itself can show anything. The recorder has what it printed within moments.
  for (;;) {
    signal.throwIfAborted();
    if ((await runner.printed(peer)).includes(`"reply": "crucible-drill-peer`)) return { address, problem: '' };
    if (Date.now() > deadline) return { address: undefined, problem: 'the second sandbox did not answer itself' };
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function runCanary(
  { id, runtimeClass, runner, signal, now, facts }: DrillInputs,
  attacks: readonly Attack[],
  targets: readonly Target[],
  problem: (group: string) => string,
  begin: Begin,
): Promise<Finding[]> {
  const spec = { code: canaryProgram(attacks, TARGETS_EXPRESSION), timeoutSeconds: 60, memory: '128Mi' };
  const files = [{ path: TARGETS_FILE, content: JSON.stringify(targets) }];
  const canary = await begin(runner.start(id, 'canary', spec, runtimeClass, files, signal));
  const end = await runner.end(canary, now() + PATIENCE_MS, signal);
  if (end === undefined) return attacks.map((attack) => openFinding(attack, 'the canary did not end in time'));
  const report = parseReport(end.stdout);
  return attacks.map((attack) => judgeInside(attack, report, end, targets, problem, facts));
}

function judgeInside(
  attack: Attack,
  report: ReadonlyMap<string, Check[]>,
  end: RunEnd,
  targets: readonly Target[],
  problem: (group: string) => string,
  facts: DrillFacts,
): Finding {
  const { method } = attack;
  if (method.kind === 'reach') {
    const expected = targets.filter(({ group }) => group === method.group).map(({ name }) => name);
    if (expected.length === 0) return openFinding(attack, problem(method.group));
    return judgeChecks(attack, expected, report.get(`reach:${method.group}`) ?? [], facts.handler);
  }
  if (method.kind !== 'inside') return openFinding(attack, 'it does not run in a canary');
  const checks = report.get(attack.id);
  if (checks === undefined) return openFinding(attack, `the canary ended as ${end.verdict} without a report of it`);
  return judgeChecks(
    attack,
    method.checks,
    attack.id === 'kernel' ? judgeKernel(checks, facts) : checks,
    facts.handler,
  );
}

async function runAlone(
  inputs: DrillInputs,
  attack: Attack,
  targets: readonly Target[],
  begin: Begin,
): Promise<Finding[]> {
  const { id, runtimeClass, runner, signal, now, facts } = inputs;
  const { method } = attack;
  if (method.kind !== 'alone') return [];
  const files = [{ path: TARGETS_FILE, content: JSON.stringify(targets) }];
  const copy = async (): Promise<Check[] | undefined> => {
    const one = await begin(runner.start(id, attack.id, method.spec, runtimeClass, files, signal));
    const end = await runner.end(one, now() + PATIENCE_MS, signal);
    return end && method.judge(end);
  };
  const judged = await Promise.all(Array.from({ length: method.spec.copies ?? 1 }, copy));
  if (judged.includes(undefined)) return [openFinding(attack, 'it did not end in time')];
  const checks = judged.flatMap((one) => one ?? []);
  const finding = judgeChecks(attack, [], checks, facts.handler);
  const silent = judged.some((one) => one?.length === 0);
  return [finding.outcome === 'held' && silent ? openFinding(attack, 'a copy of it ended without a report') : finding];
}

/** The same control, port and moment: what answers from its listener would answer from the sandbox, were it let in. */
async function runIngress(
  { askPeer, signal, facts }: DrillInputs,
  attack: Attack,
  targets: readonly Target[],
  peer: Peer | undefined,
): Promise<Finding[]> {
  if (attack.method.kind !== 'ingress') return [];
  if (peer?.address === undefined) return [openFinding(attack, peer?.problem ?? 'the second sandbox did not start')];
  if (!targets.some(({ group, protocol, port }) => group === 'egress' && protocol === 'tcp' && port === PEER_PORT))
    return [openFinding(attack, 'no positive control: the listener did not answer the control pod')];
  const answer = await askPeer(peer.address, signal);
  return [judgeChecks(attack, [], [{ check: 'ingress', ...answer }], facts.handler)];
}

/** On copies of the Job of a sandbox that does nothing but be there. */
async function runSmuggling(inputs: DrillInputs, attack: Attack, begin: Begin): Promise<Finding[]> {
  const { id, runtimeClass, runner, signal, now, facts } = inputs;
  const { method } = attack;
  if (method.kind !== 'smuggle') return [];
  const spec = { code: 'import time\ntime.sleep(120)\n', timeoutSeconds: 150 };
  const one = await begin(runner.start(id, attack.id, spec, runtimeClass, [], signal));
  if ((await runner.address(one, now() + PATIENCE_MS, signal)).address === undefined)
    return [openFinding(attack, 'the sandbox whose Job is copied did not start in time')];
  return [judgeChecks(attack, [], await runner.smuggle(id, one, method.smuggled, signal), facts.handler)];
}

async function tryMissingClass(inputs: DrillInputs, begin: Begin): Promise<DrillFacts['missingClass']> {
  const { id, runner, signal, now } = inputs;
  const one = await begin(
    runner.start(id, 'missing-class', { code: 'print(1)' }, `crucible-drill-${id.slice(0, 8)}`, [], signal),
  );
  return await runner.refusal(one, now() + PATIENCE_MS, signal);
}
