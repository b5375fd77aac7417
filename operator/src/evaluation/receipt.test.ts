import { describe, expect, it } from 'vitest';
import type { Pod } from './objects.ts';
import { asReceipt, buildReceipt, containedClaim, receiptDigest, receiptView } from './receipt.ts';
import type { Receipt, ReceiptInput } from './receipt.ts';
import { NOW, at, attempt, measured, pod } from './testing/builders.ts';

const MEASURED = measured(100_000, NOW - 39_500);

function sandboxPod(spec: Pod['spec'] = {}): Pod {
  const built = pod().ended(0).build();
  const container = { name: 'sandbox', image: 'crucible/python:test', resources: { limits: { memory: '384Mi' } } };
  const securityContext = { runAsUser: 100_000, runAsGroup: 100_000 };
  return { ...built, spec: { ...built.spec, securityContext, containers: [container], ...spec } };
}

function receipt(sent: unknown, changes: Partial<ReceiptInput> = {}): Receipt {
  const given = { attempt: attempt(), pod: sandboxPod(), runtimeHandler: undefined, now: NOW };
  return buildReceipt({ ...given, measured: sent, ...changes });
}

const rules = (built: Receipt): string[] => built.mismatches.map(({ rule }) => rule);

describe('the receipt', () => {
  it('holds what both say, who could have forged it, and no mismatch where there is none', () => {
    const built = receipt(MEASURED);
    expect(built.mismatches).toEqual([]);
    expect(built.sandbox).toEqual(MEASURED);
    expect(built.kubernetes).toMatchObject({ image: 'crucible/python:test', securityContext: { pod: { runAsUser: 100_000 } } });
    expect(built.provenance).toMatchObject({ kubernetes: { forgeable: false }, sandbox: { forgeable: true, by: expect.stringContaining('built the image') } });
    expect(containedClaim(built)).toMatchObject({ status: 'True', reason: 'Measured' });
  });

  it('says when it was measured, not when it was stored', () => {
    expect(receiptView(receipt(MEASURED)).measuredAt).toBe(at(-39.5).replace(/\.\d+Z$/, 'Z'));
    expect(receipt({ ...MEASURED, measuredAt: 'yesterday' }).measuredAt).toBe(at(-40));
  });

  it.each<[string, object, string]>([
    ['another uid', { uid: 0 }, 'uid'],
    ['another gid', { gid: 0 }, 'gid'],
    ['a root group', { groups: [0, 100_000] }, 'groups'],
    ['a capability', { caps: { effective: '0000000000000400' } }, 'capabilities'],
    ['no filter', { seccomp: 0 }, 'seccomp'],
    ['a call that gets through', { denied: { mount: '' } }, 'systemCalls'],
    ['privileges to gain', { noNewPrivs: false }, 'noNewPrivs'],
    ['a writable root', { rootReadOnly: false }, 'rootReadOnly'],
    ['a token', { tokenAbsent: false }, 'tokenAbsent'],
    ['a launcher within reach', { launcherSealed: false }, 'launcherSealed'],
    ['a launcher that can be killed', { launcherShielded: false }, 'launcherShielded'],
    ['no limit of processes', { processLimitHolds: false }, 'processLimit'],
    ['a way to the API server', { network: [{ target: '10.96.0.1:443', result: 'connected' }] }, 'network'],
    ['more memory', { cgroup: { memoryBytes: 2 ** 40 } }, 'memory'],
    ['another time', { measuredAt: '2001-01-01T00:00:00Z' }, 'measuredAt'],
    ['a time to come', { measuredAt: at(60) }, 'measuredAt'],
  ])('flags %s', (_, change, rule) => {
    const built = receipt({ ...MEASURED, ...change });
    expect(rules(built)).toEqual([rule]);
    expect(containedClaim(built)).toMatchObject({ status: 'False', reason: 'ReceiptMismatch', message: expect.stringContaining(rule) });
  });

  it('flags a pod that is not what was asked for', () => {
    const asked = attempt({ runtimeClass: 'gvisor' });
    expect(rules(receipt(MEASURED, { attempt: asked }))).toEqual(['runtimeClass']);
    expect(rules(receipt(MEASURED, { attempt: attempt({ image: 'other' }) }))).toEqual(['image']);
  });

  it('flags a RuntimeClass of gVisor that was silently not applied', () => {
    const gvisor = { attempt: attempt({ runtimeClass: 'strong' }), pod: sandboxPod({ runtimeClassName: 'strong' }), runtimeHandler: 'runsc' };
    expect(rules(receipt(MEASURED, gvisor))).toEqual(['kernel']);
    expect(rules(receipt({ ...MEASURED, kernel: { release: '4.19.0-gvisor' } }, gvisor))).toEqual([]);
  });

  it('names what the platform cannot give, and what was accepted', () => {
    const built = receipt({ ...MEASURED, terminationMessageWritable: true }, { attempt: attempt({ acceptedRisks: [{ rules: [15], reason: 'no engine here' }] }) });
    expect(built.open).toEqual(['userNamespace', 'terminationMessage']);
    expect(containedClaim(built)).toMatchObject({ status: 'True', reason: 'RisksAccepted', message: expect.stringContaining('no engine here') });
  });

  it.each([[null], ['text'], [[]], [undefined]])('survives a measurement of %j', (sent) => {
    expect(rules(receipt(sent))).toEqual([]);
    if (sent == null) expect(containedClaim(receipt(sent))).toMatchObject({ status: 'Unknown', reason: 'NotMeasured' });
  });

  it.each([[{}], [{ caps: [], denied: 3, network: { a: 1 }, groups: 'x', kernel: null, cgroup: [1] }]])('flags a measurement that says nothing: %j', (sent) => {
    expect(rules(receipt(sent))).toEqual(expect.arrayContaining(['seccomp', 'uid', 'measuredAt']));
  });

  it('knows without the pod what the sandbox said', () => {
    const built = receipt({ ...MEASURED, seccomp: 0 }, { pod: undefined });
    expect(built.kubernetes).toBeNull();
    expect(rules(built)).toEqual(['seccomp']);
  });

  it('has the same digest however the database orders it, and another for other content', () => {
    const built = receipt(MEASURED);
    const stored = asReceipt(Object.fromEntries(Object.entries(JSON.parse(JSON.stringify(built)) as object).reverse()));
    expect(receiptDigest(stored)).toBe(receiptDigest(built));
    expect(receiptDigest({ ...built, attempt: 2 })).not.toBe(receiptDigest(built));
  });
});
