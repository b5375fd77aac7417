import { describe, expect, it } from 'vitest';
import { jobName, labelValue, splitKey } from './names.ts';

const uid = '0b5f7a4e-5d0c-4a5e-9a43-0c3b2f1e8a11';

describe('jobName', () => {
  it('is the same each time, and differs by uid and attempt', () => {
    expect(jobName({ name: 'hello', uid }, 1)).toMatch(/^hello-[0-9a-f]{8}-1$/);
    expect(jobName({ name: 'hello', uid }, 1)).toBe(jobName({ name: 'hello', uid }, 1));
    expect(jobName({ name: 'hello', uid }, 2)).not.toBe(jobName({ name: 'hello', uid }, 1));
    expect(jobName({ name: 'hello', uid: 'other' }, 1)).not.toBe(jobName({ name: 'hello', uid }, 1));
  });

  it.each(['a'.repeat(63), `${'a'.repeat(44)}-${'b'.repeat(18)}`, 'a.b.c', `${'x.'.repeat(120)}x`])(
    'leaves room for the pod suffix: %s',
    (name) => {
      const result = jobName({ name, uid }, 12);
      expect(result.length).toBeLessThanOrEqual(57);
      expect(result).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
    },
  );
});

describe('labelValue', () => {
  it('is a valid label value', () => {
    expect(labelValue('hello')).toBe('hello');
    expect(labelValue(`${'a'.repeat(62)}.b`)).toBe('a'.repeat(62));
  });
});

describe('splitKey', () => {
  it('splits at the first slash', () => expect(splitKey('ns/name')).toEqual({ namespace: 'ns', name: 'name' }));
});
