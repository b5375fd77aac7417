import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { re2Problem } from './re2.ts';
import { NotStructuralError, toStructuralSchema } from './structural.ts';

const bounded = (): z.ZodString => z.string().max(9);
const inField = (field: z.ZodType): z.ZodType =>
  z.object({ outer: z.object({ inner: field.describe('Inner.') }).describe('Outer.') });

interface Tree {
  value: string;
  children?: Tree[] | undefined;
}
const tree: z.ZodType<Tree> = z.object({
  value: bounded().describe('Value.'),
  get children() {
    return z.array(tree).max(3).describe('Children.').optional();
  },
});

describe('what is not structural is refused with its path:', () => {
  test.each<[string, z.ZodType, string]>([
    ['union', z.union([bounded(), z.boolean()]), 'a union'],
    [
      'discriminated union',
      z.discriminatedUnion('k', [z.object({ k: z.literal('a') }), z.object({ k: z.literal('b') })]),
      'a union',
    ],
    ['tuple', z.tuple([bounded(), bounded()]), 'a union'],
    ['strict object', z.strictObject({}), 'a strict object'],
    ['loose object', z.looseObject({ a: bounded().describe('A.') }), 'a loose object'],
    ['unknown', z.unknown(), 'a value of any type'],
    ['any', z.any(), 'a value of any type'],
    ['never', z.never(), 'a negation'],
    ['readonly', z.object({}).readonly(), 'readonly()'],
    ['recursion', tree, 'a reference'],
    ['two patterns', bounded().regex(/a/).regex(/b/), 'combined checks'],
    ['look-ahead', bounded().regex(/^a(?=b)/), 'look-around'],
    ['look-behind', bounded().regex(/(?<!a)b/), 'look-around'],
    ['back-reference', bounded().regex(/(a)\1/), 'a back-reference'],
    ['unbounded string', z.string(), 'a string needs a maximum length'],
    ['unbounded list', z.array(bounded()), 'a list needs a maximum'],
    ['unbounded list item', z.array(z.string()).max(3), 'a string needs a maximum length'],
    ['unbounded map', z.record(z.string(), bounded()), 'a map needs meta({ maxProperties })'],
    ['map of anything', z.record(z.string(), z.unknown()).meta({ maxProperties: 3 }), 'a value of any type'],
    ['date', z.date(), 'Date'],
    ['multiple of', z.number().multipleOf(2), 'multipleOf cannot be said'],
    [
      'integer or string without a pattern',
      z.union([z.int(), z.string()]).meta({ 'x-kubernetes-int-or-string': true }),
      'needs a pattern',
    ],
    [
      'string or integer',
      z.union([z.string(), z.int()]).meta({ 'x-kubernetes-int-or-string': true, pattern: 'a' }),
      'in this order',
    ],
  ])('%s', (_, schema, reason) => {
    const convert = (): unknown => toStructuralSchema(inField(schema), 'Kind.spec');
    expect(convert).toThrow(NotStructuralError);
    expect(convert).toThrow(reason);
    expect(convert).toThrow(/^Kind\.spec/);
  });

  test('the path is that of the field', () => {
    const deep = z.object({
      list: z
        .array(z.object({ map: z.record(z.string(), z.unknown()).meta({ maxProperties: 1 }).describe('Map.') }))
        .max(1)
        .describe('List.'),
    });
    expect(() => toStructuralSchema(deep, 'Kind.spec')).toThrow(/^Kind\.spec\.list\[\]\.map\{\}: /);
  });

  test('a schema with an id becomes a reference', () => {
    expect(() => toStructuralSchema(inField(bounded().meta({ id: 'CrucibleTestId' })), 'Kind')).toThrow(
      'Kind.outer.inner: a reference',
    );
  });

  test('a field without a description', () => {
    expect(() => toStructuralSchema(z.object({ a: bounded() }), 'Kind')).toThrow('Kind.a: a field needs a description');
  });

  test('a field that YAML 1.1 reads as a boolean, unless it has its alias', () => {
    const on = z.boolean().describe('On.');
    expect(() => toStructuralSchema(z.object({ on }), 'Kind')).toThrow('Kind.on: kubectl reads an unquoted on as true');
    expect(() => toStructuralSchema(z.object({ No: on }), 'Kind')).toThrow(
      'Kind.No: kubectl reads an unquoted No as false',
    );
    expect(() => toStructuralSchema(z.object({ on, true: on }), 'Kind')).not.toThrow();
  });
});

test('what is structural passes through, rules included', () => {
  const schema = z.object({
    size: z
      .union([z.int(), z.string()])
      .meta({ 'x-kubernetes-int-or-string': true, pattern: '^[0-9]+$' })
      .describe('Size.'),
    count: z.int().min(1).optional().describe('Count.'),
    labels: z.record(z.string(), bounded()).meta({ maxProperties: 2 }).optional().describe('Labels.'),
    mode: z.enum(['a', 'b']).default('a').describe('Mode.'),
  });
  expect(toStructuralSchema(schema.meta({ 'x-kubernetes-validations': [{ rule: 'true' }] }), 'Kind')).toEqual({
    type: 'object',
    required: ['size'],
    'x-kubernetes-validations': [{ rule: 'true' }],
    properties: {
      size: {
        anyOf: [{ type: 'integer' }, { type: 'string' }],
        'x-kubernetes-int-or-string': true,
        pattern: '^[0-9]+$',
        description: 'Size.',
      },
      count: { type: 'integer', minimum: 1, description: 'Count.' },
      labels: {
        type: 'object',
        maxProperties: 2,
        additionalProperties: { type: 'string', maxLength: 9 },
        description: 'Labels.',
      },
      mode: { type: 'string', enum: ['a', 'b'], default: 'a', description: 'Mode.' },
    },
  });
});

test.each([
  ['^[a-z]([-a-z0-9]*[a-z0-9])?$', undefined],
  ['[(?=)]', undefined],
  ['\\(?=', undefined],
  ['(?:a|b)', undefined],
  ['(?!a)', 'look-around'],
  ['(?<=a)b', 'look-around'],
  ['(?<n>a)\\k<n>', 'a back-reference'],
  ['\\u0041', 'a \\u or \\c escape'],
])('RE2 and %s: %s', (pattern, problem) => expect(re2Problem(pattern)).toBe(problem));
