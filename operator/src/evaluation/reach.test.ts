import { describe, expect, it } from 'vitest';
import { KubeError } from '../kube/index.ts';
import { isOutOfReach, unlessOutOfReach } from './reach.ts';

const forbidden = new KubeError({ code: 403, reason: 'Forbidden', message: 'no' });
const notFound = new KubeError({ code: 404, reason: 'NotFound', message: 'no' });
const away = new KubeError({ code: 503, reason: 'ServiceUnavailable', message: 'no' });
const deletionTimestamp = '2026-01-01T00:00:00Z';

function deps(namespace: { deletionTimestamp?: string } | undefined, evaluationNamespaces = ['evals']) {
  const object = namespace && { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'evals', ...namespace } };
  return { caches: { namespaces: { get: () => object } }, settings: { evaluationNamespaces } };
}

function run(metadata = {}, spec = {}) {
  return { apiVersion: 'crucible.dev/v1alpha1', kind: 'Evaluation', metadata: { namespace: 'evals', ...metadata }, spec };
}

describe('isOutOfReach', () => {
  it('what is not found, whatever else is so', () => {
    expect(isOutOfReach(notFound, run(), deps({}))).toBe(true);
  });

  it('not what the API server cannot say', () => {
    expect(isOutOfReach(away, run({ deletionTimestamp }), deps(undefined, []))).toBe(false);
  });

  it('what may not be touched in a namespace that is gone or goes', () => {
    expect(isOutOfReach(forbidden, run(), deps(undefined))).toBe(true);
    expect(isOutOfReach(forbidden, run(), deps({ deletionTimestamp }))).toBe(true);
  });

  it('not what may not be touched for now: rights come back', () => {
    for (const one of [run(), run({ deletionTimestamp }), run({}, { cancel: true })]) expect(isOutOfReach(forbidden, one, deps({}))).toBe(false);
  });

  it('in a namespace that is not configured any more, only what its owner has end', () => {
    expect(isOutOfReach(forbidden, run(), deps({}, []))).toBe(false);
    expect(isOutOfReach(forbidden, run({}, { cancel: true }), deps({}, []))).toBe(true);
    expect(isOutOfReach(forbidden, run({ deletionTimestamp }), deps({}, []))).toBe(true);
  });
});

describe('unlessOutOfReach', () => {
  const conflict = new KubeError({ code: 409, reason: 'Conflict', message: 'another of that name' });
  const isTheConflict = (error: unknown): boolean => error === conflict;

  it('is what the call says, or undefined for what is out of reach, or what else means that', async () => {
    expect(await unlessOutOfReach(Promise.resolve(1), run(), deps({}))).toBe(1);
    expect(await unlessOutOfReach(Promise.reject(notFound), run(), deps({}))).toBeUndefined();
    expect(await unlessOutOfReach(Promise.reject(conflict), run(), deps({}), isTheConflict)).toBeUndefined();
  });

  it('throws everything else', async () => {
    await expect(unlessOutOfReach(Promise.reject(conflict), run(), deps({}))).rejects.toBe(conflict);
    await expect(unlessOutOfReach(Promise.reject(away), run(), deps({}), isTheConflict)).rejects.toBe(away);
  });
});
