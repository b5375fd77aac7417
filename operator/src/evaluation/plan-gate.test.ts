import { describe, expect, it } from 'vitest';
import type { Gate } from '../drill/gate.ts';
import { openGate } from '../drill/gate.ts';
import { plan } from './plan.ts';
import {
  NOW,
  at,
  attempt,
  launched,
  output,
  pod,
  rawEvaluation,
  record,
  settings,
  snapshot,
} from './testing/builders.ts';

const closed = (reason: 'DrillPending' | 'DrillFailed'): Gate => ({
  exempt: false,
  namespace: undefined,
  classes: new Map([['', { state: 'closed', closed: { reason, message: 'rule 15 broken' } }]]),
});
const risks = [{ runtimeClass: undefined, rules: [15], reason: 'we know' }];
const types = ({ actions }: ReturnType<typeof plan>) => actions.map(({ type }) => type);

describe('a closed gate', () => {
  it('starts nothing, says why, takes no place and asks for a drill of the class', () => {
    const decision = plan(snapshot({ gate: closed('DrillFailed') }), NOW, settings());
    expect(types(decision)).toEqual([]);
    expect(decision).toMatchObject({
      turn: 'release',
      drill: { runtimeClass: undefined },
      view: {
        phase: 'Queued',
        accepted: { status: 'Unknown', reason: 'DrillFailed', message: 'rule 15 broken' },
        queue: { reason: 'DrillFailed' },
      },
    });
  });

  it('is one for a class that was never drilled', () => {
    const decision = plan(
      snapshot({ spec: { isolation: { runtimeClassName: 'gvisor' } }, gate: closed('DrillFailed') }),
      NOW,
      settings(),
    );
    expect(decision).toMatchObject({
      drill: { runtimeClass: 'gvisor' },
      view: { accepted: { reason: 'DrillPending' } },
    });
  });

  it('starts no further attempt either', () => {
    const last = attempt({ state: 'finalized', finalizedAt: new Date(NOW - 3_600_000) });
    const state = { evaluation: record({ phase: 'Queued' }), attempts: [last] };
    const decision = plan(
      snapshot({ spec: { retry: { limit: 2 } }, record: state, gate: closed('DrillFailed') }),
      NOW,
      settings(),
    );
    expect(types(decision)).not.toContain('launch');
    expect(decision.view?.accepted.reason).toBe('DrillFailed');
  });

  it('leaves alone what runs', () => {
    const decision = plan(launched({ pod: pod().running().build(), gate: closed('DrillFailed') }), NOW, settings());
    expect(decision.view).toMatchObject({ phase: 'Running', accepted: { status: 'True' } });
  });

  it('writes no status for some seconds to those that were accepted before', () => {
    const condition = {
      type: 'Accepted',
      status: 'True' as const,
      reason: 'Admitted',
      message: '',
      lastTransitionTime: at(-9),
    };
    const raw = rawEvaluation({}, { status: { phase: 'Queued', conditions: [condition] } });
    expect(plan(snapshot({ raw, gate: closed('DrillPending') }), NOW, settings()).view).toBeUndefined();
    expect(plan(snapshot({ raw, gate: closed('DrillFailed') }), NOW, settings()).view).toBeDefined();
  });
});

it('the drill’s own start through a closed gate, a pause and a full queue, and take no place', () => {
  const gate: Gate = { exempt: true, namespace: { reason: 'DefaultDenyMissing', message: 'm' }, classes: new Map() };
  const decision = plan(snapshot({ gate, turn: false, paused: 'for ever' }), NOW, settings());
  expect(types(decision)).toContain('launch');
  expect(decision.turn).toBe('release');
  expect(plan(launched({ gate, pod: pod().running().build() }), NOW, settings()).turn).toBe('release');
});

it('an accepted risk is recorded with the attempt and said by the run from then on, its receipt included', () => {
  const begun = plan(snapshot({ gate: openGate(risks).gate(rawEvaluation()) }), NOW, settings());
  expect(begun.actions.find(({ type }) => type === 'recordAttempt')).toMatchObject({ risks });
  const accepted = { reason: 'AdmittedWithAcceptedRisk', message: expect.stringContaining('rules 15') as string };
  expect(begun.view?.accepted).toMatchObject(accepted);
  const recorded = { jobUid: null, acceptedRisks: [{ rules: [15], reason: 'we know' }] };
  const again = launched({ attempt: recorded, job: undefined, gate: openGate(risks).gate(rawEvaluation()) });
  expect(types(plan(again, NOW, settings()))).toEqual(['addFinalizer', 'createConfigMap', 'launch']);
  const captured = output('x', { receipt: { uid: 1 } });
  const ended = launched({
    attempt: { acceptedRisks: [{ rules: [15], reason: 'we know' }], state: 'running' },
    pod: pod().running().ended(0).build(),
    capture: captured.capture,
    output: captured,
  });
  const view = plan(ended, NOW, settings()).view;
  expect(view?.accepted).toMatchObject(accepted);
  expect(view?.receipt?.acceptedRisks).toEqual([{ rules: [15], reason: 'we know' }]);
});
