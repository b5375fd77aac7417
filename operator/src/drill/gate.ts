import type { RawEvaluation } from '../evaluation/snapshot.ts';
import type { Finding } from './attack.ts';
import { scoreRules } from './attack.ts';

// Whether a sandbox of a RuntimeClass may be started in a namespace. Pure: the drill's findings and the policies in,
// open or closed out.

/** A weaker sandbox that an administrator has accepted by name. Undefined: the cluster's default runtime. */
export interface AcceptedRisk {
  readonly runtimeClass: string | undefined;
  readonly rules: readonly number[];
  readonly reason: string;
}

export const CLOSED_REASONS = [
  'DrillPending',
  'DrillFailed',
  'DrillIncomplete',
  'ForeignNetworkPolicy',
  'DefaultDenyMissing',
] as const;

export interface Closed {
  readonly reason: (typeof CLOSED_REASONS)[number];
  /** At most 256 characters: also the queue's reason. */
  readonly message: string;
}

/** Of one RuntimeClass: what is shown of it so far. */
export type ClassState =
  | { readonly state: 'open'; readonly risks: readonly AcceptedRisk[] }
  | { readonly state: 'closed'; readonly closed: Closed };

/** What the plan of one evaluation needs to know. */
export interface Gate {
  /** One of the drill's own: it is what finds out. */
  readonly exempt: boolean;
  readonly namespace: Closed | undefined;
  /** By class; one that is not in it has never been drilled. `''` is the cluster's default runtime. */
  readonly classes: ReadonlyMap<string, ClassState>;
}

export interface GateKeeper {
  gate(raw: RawEvaluation): Gate;
  /** An evaluation waits for this class to be drilled. */
  want(runtimeClass: string | undefined): void;
  /** Calls back whenever a gate may have opened or closed; with a key, for that evaluation only. */
  onChange(listener: (key?: string) => void): void;
}

export const classKey = (runtimeClass: string | undefined): string => runtimeClass ?? '';
export const className = (key: string): string => (key === '' ? 'the default runtime' : `RuntimeClass ${key}`);

export type Passage =
  | { readonly open: true; readonly risks: readonly AcceptedRisk[] }
  | ({ readonly open: false } & Closed);

export function passage(gate: Gate, runtimeClass: string | undefined): Passage {
  if (gate.exempt) return { open: true, risks: [] };
  if (gate.namespace !== undefined) return { open: false, ...gate.namespace };
  const key = classKey(runtimeClass);
  const state = gate.classes.get(key);
  if (state === undefined) return { open: false, ...pending(key) };
  if (state.state === 'closed') return { open: false, ...state.closed };
  return { open: true, risks: state.risks };
}

export function pending(key: string): Closed {
  return {
    reason: 'DrillPending',
    message: `Waits for the first drill of ${className(key)}, which takes some seconds.`,
  };
}

/** Something answered one of its sandboxes. */
export function doubted(key: string): Closed {
  return {
    reason: 'DrillPending',
    message: `Something answered a sandbox of ${className(key)} that should be out of its reach. Waits for the drill that follows.`,
  };
}

/**
 * What a class's findings mean for admission. Every rule of the quick drill must be held, and no other may be broken,
 * unless it is accepted by name.
 */
export function judgeClass(
  key: string,
  findings: readonly Finding[],
  quick: ReadonlySet<number>,
  accepted: readonly AcceptedRisk[],
): ClassState {
  const mine = accepted.filter(({ runtimeClass }) => classKey(runtimeClass) === key);
  const allows = (rule: number): boolean => mine.some(({ rules }) => rules.includes(rule));
  const scores = scoreRules(findings).filter(
    ({ rule, outcome }) => outcome === 'broken' || (outcome === 'open' && quick.has(rule)),
  );
  const bad = scores.filter(({ rule }) => !allows(rule));
  const broken = bad.filter(({ outcome }) => outcome === 'broken');
  if (broken.length > 0) return closed('DrillFailed', key, 'broken', broken);
  if (bad.length > 0) return closed('DrillIncomplete', key, 'not shown', bad);
  const used = new Set(scores.map(({ rule }) => rule));
  const risks = mine
    .map((risk) => ({ ...risk, rules: risk.rules.filter((rule) => used.has(rule)) }))
    .filter(({ rules }) => rules.length > 0);
  return { state: 'open', risks };
}

function closed(
  reason: Closed['reason'],
  key: string,
  word: string,
  bad: readonly { readonly rule: number; readonly evidence: string }[],
): ClassState {
  const first = bad[0]!;
  const rules = bad.length === 1 ? `rule ${first.rule}` : `rules ${bad.map(({ rule }) => rule).join(', ')}`;
  const head = `The drill of ${className(key)} found ${rules} ${word}: `;
  return { state: 'closed', closed: { reason, message: clipped(head, first.evidence) } };
}

/** Evidence may differ from drill to drill; only its beginning is told here, so that statuses stay the same. */
function clipped(head: string, evidence: string): string {
  const room = Math.max(20, 250 - head.length);
  return head + (evidence.length <= room ? evidence : `${evidence.slice(0, room - 1)}…`);
}

/** For tests, and for installations that have switched the drill off and say so. */
export function openGate(risks: readonly AcceptedRisk[] = []): GateKeeper {
  const always: ClassState = { state: 'open', risks };
  const classes = { get: () => always } as unknown as ReadonlyMap<string, ClassState>;
  return { gate: () => ({ exempt: false, namespace: undefined, classes }), want: () => {}, onChange: () => {} };
}
