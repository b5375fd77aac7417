import { expect, test } from 'vitest';
import * as z from 'zod';
import { timestamp } from '../schemas/common.ts';
import { serializers } from './serializer.ts';

const inner = z.object({ class: z.string(), evidence: z.array(z.unknown()).readonly().optional() }).meta({ id: 'InnerOfThisTest' });
const schema = z.object({
  name: z.string(), count: z.int(), at: timestamp, until: timestamp.nullable(), inner: inner.nullable(),
  labels: z.record(z.string(), z.string()), spec: z.record(z.string(), z.unknown()), note: z.string().optional(),
});
const write = (checked: boolean): ((answer: unknown) => string) => serializers(checked)({ schema, method: 'GET', url: '/of/a/test' });

const at = new Date('2026-01-02T03:04:05.678Z');
const answer = { name: 'ü"\n\u2028', count: 3, at, until: null, inner: null, labels: { a: 'b' }, spec: { deep: [{ x: null }] } };

test.each([
  ['nulls and nothing', answer],
  ['everything', { ...answer, until: at, inner: { class: 'X', evidence: [1, { a: 'b' }] }, note: 'n' }],
])('is written as zod would: %s', (_, given) => {
  expect(JSON.parse(write(false)(given))).toEqual(JSON.parse(JSON.stringify(z.encode(schema, given))));
});

test('what the schema does not name is not written, at any depth', () => {
  const text = write(false)({ ...answer, token: 'secret', inner: { class: 'X', token: 'secret' } });
  expect(text).not.toContain('secret');
});

test('what is required has to be there', () => {
  const { name: _, ...rest } = answer;
  expect(() => write(false)(rest)).toThrow(/name/);
});

test.each([
  ['null where the contract has none', { ...answer, name: null }],
  ['another type', { ...answer, count: '3' }],
  ['a fraction', { ...answer, count: 3.5 }],
])('checked, it refuses %s', (_, wrong) => {
  expect(() => write(true)(wrong)).toThrow();
  expect(write(true)(answer)).toBe(write(false)(answer));
});
