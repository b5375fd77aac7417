import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';

const required = {
  CRUCIBLE_DATABASE_URL: 'postgresql://secret@db/crucible',
  CRUCIBLE_LAUNCHER_IMAGE: 'crucible/launcher:1',
};

describe('readConfig', () => {
  it('fills in what is not given, and takes an empty value for that', () => {
    const { settings, port, workers } = readConfig({
      ...required,
      CRUCIBLE_NAMESPACES: 'evals, other,evals',
      CRUCIBLE_RUNTIME_CLASS: '',
    });
    expect(settings.evaluationNamespaces).toEqual(['evals', 'other']);
    expect(settings.sandbox).toMatchObject({
      runtimeClassName: undefined,
      serviceAccountName: 'crucible-sandbox',
      uids: { first: 100_000, last: 165_535 },
      strictSupplementalGroups: true,
    });
    expect([port, workers]).toEqual([8080, 8]);
  });

  it('reads limits of single namespaces, and takes none for uncaptured runs as all that run', () => {
    const limits = (value: string) => readConfig({ ...required, CRUCIBLE_NAMESPACE_LIMITS: value }).settings.namespaceLimits;
    expect(limits('evals=10, team-a=1')).toEqual({ evals: 10, 'team-a': 1 });
    for (const wrong of ['evals', 'evals=0', 'evals=-1', 'Evals=3', 'evals=3=4']) expect(() => limits(wrong)).toThrow(/CRUCIBLE_NAMESPACE_LIMITS/);
    expect(readConfig({ ...required, CRUCIBLE_MAX_CONCURRENT: '7' }).settings).toMatchObject({ maxUncaptured: 7, kueue: false });
  });

  it('names every mistake at once, without values', () => {
    const wrong = {
      CRUCIBLE_DATABASE_URL: 'mysql://secret',
      CRUCIBLE_MAX_CONCURRENT: 'many',
      CRUCIBLE_SANDBOX_UID_FIRST: '0',
    };
    expect(() => readConfig(wrong)).toThrow(
      /CRUCIBLE_DATABASE_URL.*CRUCIBLE_LAUNCHER_IMAGE.*CRUCIBLE_MAX_CONCURRENT.*CRUCIBLE_SANDBOX_UID_FIRST/s,
    );
    expect(() => readConfig(wrong)).not.toThrow(/secret|many/);
  });

  it('refuses a range of uids that ends before it begins', () => {
    expect(() =>
      readConfig({ ...required, CRUCIBLE_SANDBOX_UID_FIRST: '20000', CRUCIBLE_SANDBOX_UID_LAST: '19999' }),
    ).toThrow(/UID_LAST/);
  });
});

describe('the drill', () => {
  it('is on, with no risk accepted, unless something else is said', () => {
    const { drill } = readConfig(required);
    expect(drill).toMatchObject({ enabled: true, watch: true, retrySeconds: 20, acceptedRisks: [], metadataAddresses: [] });
  });

  it('accepts risks by name', () => {
    const risks = [{ runtimeClass: '', rules: [17], reason: 'no such service here' }, { runtimeClass: 'weak', rules: [15, 18], reason: 'a test' }];
    expect(readConfig({ ...required, CRUCIBLE_ACCEPTED_RISKS: JSON.stringify(risks) }).drill.acceptedRisks).toEqual([
      { runtimeClass: undefined, rules: [17], reason: 'no such service here' },
      { runtimeClass: 'weak', rules: [15, 18], reason: 'a test' },
    ]);
  });

  it.each(['{', '{}', '[{"rules":[1]}]', '[{"rules":[],"reason":"x"}]', '[{"rules":[99],"reason":"x"}]', '[{"rules":[1],"reason":""}]', '[{"rule":[1],"reason":"x"}]'])(
    'refuses the risks %s',
    (text) => expect(() => readConfig({ ...required, CRUCIBLE_ACCEPTED_RISKS: text })).toThrow(/CRUCIBLE_ACCEPTED_RISKS/),
  );
});
