// What an attack is, and how its results are scored. Pure.

/** open: neither held nor broken could be shown, and the evidence says why. Never quietly a success. */
export type Outcome = 'held' | 'broken' | 'open';

/** One observation of a probe. Null: it could not tell. */
export interface Check {
  readonly check: string;
  readonly blocked: boolean | null;
  readonly detail: string;
}

export interface Attack {
  readonly id: string;
  /** Of the sandbox contract (docs/drill.md lists them). */
  readonly rule: number;
  readonly title: string;
  /** What is tried, why an attacker would, and what it proves when it fails. */
  readonly tries: string;
  readonly why: string;
  readonly proves: string;
  /** Among the ten that decide whether anything is admitted. */
  readonly quick: boolean;
  readonly method: Method;
  /** What a platform cannot do: a check that fails there is open, with this reason, and not broken. */
  readonly limits?: readonly Limit[];
}

export interface Limit {
  readonly check: string;
  readonly platform: 'gvisor' | 'linux';
  readonly reason: string;
}

export type Method =
  /** Python that runs in the canary beside the others; it defines one function marked `@attack('<id>')`. */
  | { readonly kind: 'inside'; readonly source: string; readonly checks: readonly string[] }
  /** Addresses of this group that the control pod reached are tried from the canary. */
  | { readonly kind: 'reach'; readonly group: TargetGroup }
  /** A pod that no policy holds back tries a sandbox that listens. */
  | { readonly kind: 'ingress' }
  /** An evaluation of its own, judged by how it ended and what it printed. */
  | { readonly kind: 'alone'; readonly spec: AttackSpec; readonly judge: (end: RunEnd) => Check[] }
  /** Changed copies of a sandbox's Job, judged by what admission says to their pods. */
  | { readonly kind: 'smuggle'; readonly smuggled: readonly Smuggled[] }
  /** Judged from what the API server says, without a sandbox. */
  | { readonly kind: 'facts'; readonly judge: (facts: DrillFacts) => Check[] };

export type TargetGroup = 'egress' | 'apiServer' | 'node' | 'dns' | 'metadata' | 'peer';

export interface AttackSpec {
  readonly code: string;
  readonly timeoutSeconds?: number;
  readonly memory?: string;
  readonly disk?: string;
  readonly artifacts?: readonly string[];
  /** As many sandboxes of it, all of which must hold. */
  readonly copies?: number;
}

/** What of a Job's pod template the changes are about; whatever else it has stays as it is. */
export interface PodTemplate {
  metadata: { labels: Record<string, string>; annotations: Record<string, string>; [field: string]: unknown };
  spec: {
    containers: {
      name: string;
      securityContext?: Record<string, unknown>;
      volumeMounts: ({ name: string } & Record<string, unknown>)[];
      [field: string]: unknown;
    }[];
    securityContext: Record<string, unknown>;
    volumes: { name: string; configMap?: { name?: string }; [source: string]: unknown }[];
    [field: string]: unknown;
  };
}

export interface Smuggled {
  readonly what: string;
  /** Of the admission policies: named in the refusal. */
  readonly rule: string;
  /** What Pod Security says of it, where that answers first. */
  readonly podSecurity?: string;
  readonly change: (template: PodTemplate) => unknown;
}

/** How an evaluation of an attack ended. Everything the sandbox printed is hostile text. */
export interface RunEnd {
  readonly stdout: string;
  readonly exitCode: number | undefined;
  readonly verdict: string;
  readonly seconds: number | undefined;
  readonly truncated: boolean;
  /** Of stdout, in the record. */
  readonly storedBytes: number;
  readonly artifacts: readonly { readonly path: string; readonly refused: string | null; readonly size: number }[];
}

export interface DrillFacts {
  readonly runtimeClass: string | undefined;
  /** The class's handler; undefined for the cluster's default runtime. */
  readonly handler: string | undefined;
  readonly kernels: readonly string[];
  /** What is wrong with the NetworkPolicies, by evaluation namespace. */
  readonly policies: readonly string[];
  /** What the operator said to an evaluation with a RuntimeClass that does not exist. */
  readonly missingClass: { readonly reason: string; readonly attempts: number } | undefined;
}

export interface Finding {
  readonly attack: string;
  readonly rule: number;
  readonly outcome: Outcome;
  readonly evidence: string;
}

export interface RuleScore {
  readonly rule: number;
  readonly outcome: Outcome;
  readonly evidence: string;
}

const MAX_EVIDENCE = 300;

export function isGvisor(handler: string | undefined): boolean {
  return handler !== undefined && /runsc|gvisor/i.test(handler);
}

/** One attack's checks as a finding. A check that is expected and missing is open: nothing was shown. */
export function judgeChecks(
  attack: Pick<Attack, 'id' | 'rule' | 'limits'>,
  expected: readonly string[],
  checks: readonly Check[],
  handler: string | undefined,
): Finding {
  const platform = isGvisor(handler) ? 'gvisor' : 'linux';
  const limitOf = (name: string): Limit | undefined =>
    attack.limits?.find((limit) => limit.check === name && limit.platform === platform);
  const breached = checks.filter(({ blocked }) => blocked === false);
  const broken = breached.filter(({ check }) => limitOf(check) === undefined);
  const limited = breached.filter(({ check }) => limitOf(check) !== undefined);
  const missing = expected.filter((name) => !checks.some(({ check }) => check === name));
  const unclear = checks.filter(({ blocked }) => blocked === null);
  const say = (list: readonly Check[]): string =>
    list.map(({ check, detail }) => (detail === '' ? check : `${check}: ${detail}`)).join('; ');
  const base = { attack: attack.id, rule: attack.rule };
  if (broken.length > 0) return { ...base, outcome: 'broken', evidence: cut(say(broken)) };
  if (limited.length > 0) {
    const reasons = limited.map(({ check, detail }) => `${limitOf(check)!.reason} (${check}: ${detail})`);
    return { ...base, outcome: 'open', evidence: cut(reasons.join('; ')) };
  }
  if (unclear.length > 0) return { ...base, outcome: 'open', evidence: cut(`not clear: ${say(unclear)}`) };
  if (missing.length > 0)
    return { ...base, outcome: 'open', evidence: cut(`the probe did not report: ${missing.join(', ')}`) };
  if (checks.length === 0) return { ...base, outcome: 'open', evidence: 'the probe reported nothing' };
  return { ...base, outcome: 'held', evidence: cut(say(checks)) };
}

export function openFinding(attack: Pick<Attack, 'id' | 'rule'>, evidence: string): Finding {
  return { attack: attack.id, rule: attack.rule, outcome: 'open', evidence: cut(evidence) };
}

const RANK: Readonly<Record<Outcome, number>> = { held: 0, open: 1, broken: 2 };

/** Rule by rule: as bad as the worst of its attacks. */
export function scoreRules(findings: readonly Finding[]): RuleScore[] {
  const rules = new Map<number, RuleScore>();
  for (const { rule, outcome, evidence } of findings) {
    const known = rules.get(rule);
    if (known === undefined || RANK[outcome] > RANK[known.outcome]) rules.set(rule, { rule, outcome, evidence });
  }
  return [...rules.values()].sort((a, b) => a.rule - b.rule);
}

export function countOutcomes(scores: readonly { readonly outcome: Outcome }[]): Record<Outcome, number> {
  const counts = { held: 0, broken: 0, open: 0 };
  for (const { outcome } of scores) counts[outcome] += 1;
  return counts;
}

/** Evidence is shown in terminals and statuses: no control characters, no line breaks, and short. */
export function cut(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '·');
  return clean.length <= MAX_EVIDENCE ? clean : `${clean.slice(0, MAX_EVIDENCE - 1)}…`;
}
