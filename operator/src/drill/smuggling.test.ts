import { describe, expect, it } from 'vitest';
import type { Smuggled } from './attack.ts';
import { smuggling } from './catalogue/smuggling.ts';
import { isQuotaConflict, judgeSmuggled, summary, withoutQuotaConflicts } from './smuggling.ts';

const one: Smuggled = { what: 'hostPath', rule: 'volumes', podSecurity: 'hostPath', change: () => {} };
const refused = (message: string) => judgeSmuggled(one, { admitted: false, message });

describe('what admission says to a changed pod', () => {
  it('counts as refused by the rule that is meant for it, or by what Pod Security says of the same', () => {
    const ours = `Error creating: pods "a" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'x' denied request: sandbox rule volumes: a sandbox's volumes are`;
    expect(refused(ours)).toMatchObject({ blocked: true, detail: 'rule volumes' });
    const standard = `pods "a" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes (volume "more")`;
    expect(refused(standard)).toMatchObject({ blocked: true, detail: 'Pod Security' });
  });

  it.each([
    ['another rule', 'denied request: sandbox rule labels: a sandbox'],
    ['a rule whose name merely begins so', 'sandbox rule volumesMore: x'],
    ['something else of Pod Security', 'violates PodSecurity "restricted:latest": seccompProfile'],
    ['a quota', 'pods "a" is forbidden: exceeded quota: crucible'],
  ])('shows nothing when it is %s', (_what, message) => expect(refused(message).blocked).toBeNull());

  it('is a breach when the pod is admitted, and nothing when nothing came of it', () => {
    expect(judgeSmuggled(one, { admitted: true }).blocked).toBe(false);
    expect(judgeSmuggled(one, undefined).blocked).toBeNull();
  });
});

describe('the sum', () => {
  const held = { check: 'a', blocked: true, detail: 'rule a' };
  const broken = { check: 'b', blocked: false, detail: 'its pod was admitted' };

  it('shows nothing unless the unchanged pod was admitted', () => {
    for (const control of [undefined, { admitted: false, message: 'no' } as const])
      expect(summary(control, [held, broken])).toMatchObject([{ check: 'the unchanged pod', blocked: null }]);
  });

  it('counts what was refused, and names only what was not', () => {
    const [sum] = summary({ admitted: true }, [held, { ...held, detail: 'Pod Security' }]);
    expect(sum).toMatchObject({ blocked: true, detail: expect.stringMatching(/^2 refused, 1 by .* 1 by Pod/) as string });
    expect(summary({ admitted: true }, [held, broken])).toEqual([broken]);
  });
});

it('tries at least thirty changes, each by a name of its own', () => {
  const { method } = smuggling;
  const names = method.kind === 'smuggle' ? method.smuggled.map(({ what }) => what) : [];
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThanOrEqual(30);
});

describe('a quota that others count on at the same moment', () => {
  const conflict = new Error('create jobs: 409 Operation cannot be fulfilled on resourcequotas "crucible": the object has been modified');

  it('is asked again, and for nothing else', async () => {
    let tries = 0;
    const after = (failures: number, error: Error) => () => (tries++ < failures ? Promise.reject(error) : Promise.resolve('made'));
    expect(await withoutQuotaConflicts(after(3, conflict))).toBe('made');
    expect(tries).toBe(4);
    tries = 0;
    await expect(withoutQuotaConflicts(after(3, new Error('denied')))).rejects.toThrow('denied');
    expect(tries).toBe(1);
    tries = 0;
    await expect(withoutQuotaConflicts(after(99, conflict))).rejects.toThrow('resourcequotas');
  });

  it('is no refusal by a quota that is used up', () => {
    expect(isQuotaConflict('pods "a" is forbidden: exceeded quota: crucible')).toBe(false);
  });
});
