import * as z from 'zod';
import { BYTES_PATTERN, CPU_PATTERN, parseBytes, parseCpu } from '../quantity.ts';
import type { Quantity } from '../quantity.ts';

// Building blocks of the schemas. Each yields the same judgement twice: as OpenAPI or CEL for the API server, and as a
// zod check for our own processes. The integration test applies every sample to both and compares.

/** One rule, said in CEL for the API server and in TypeScript for us. */
export interface Rule<T> {
  /** CEL over `self`. */
  readonly cel: string;
  /** Says what to change. */
  readonly message: string;
  readonly check: (value: T) => boolean;
}

/** Adds rules to a schema. Transition rules (`oldSelf`) have no TypeScript side and go in `transitions`. */
export function withRules<S extends z.ZodType>(
  schema: S,
  rules: readonly Rule<z.output<S>>[],
  transitions: readonly object[] = [],
): S {
  const checked = schema.superRefine((value, context) => {
    for (const rule of rules) {
      if (!rule.check(value)) context.addIssue({ code: 'custom', message: rule.message });
    }
  });
  const inherited = (schema.meta()?.['x-kubernetes-validations'] ?? []) as object[];
  const validations = [...inherited, ...rules.map(({ cel, message }) => ({ rule: cel, message })), ...transitions];
  return checked.meta({ 'x-kubernetes-validations': validations });
}

/**
 * Transition rules for a spec whose fields are fixed once it is created, but for `cancel`, which is one way, and those not
 * named. Written at the parent: a rule on an optional field is not evaluated when the field is added or removed. One rule for all, because every
 * write evaluates it, of a status and of a finalizer too, and most change no spec: that is seen by one comparison. With a
 * rule for each of sixteen fields the API server spent a third to half of the write on them.
 */
export function fixed(kind: string, fields: readonly string[]): object[] {
  const same = (field: string): string =>
    `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`;
  const another = `cannot be changed: create another ${kind}`;
  const first = fields.reduceRight((rest, field) => `!(${same(field)}) ? 'spec.${field}' : ${rest}`, `'spec'`);
  return [
    {
      rule: `self == oldSelf || (${fields.map((field) => `(${same(field)})`).join(' && ')})`,
      message: `spec ${another}`,
      messageExpression: `(${first}) + ' ${another}'`,
    },
    {
      rule: '!(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)',
      message: `spec.cancel cannot be taken back: create another ${kind}`,
      fieldPath: '.cancel',
    },
  ];
}

/** A CEL raw string, in which backslashes are literal. */
export function celString(text: string): string {
  if (text.includes("'") || /[\r\n]/.test(text)) throw new Error(`cannot quote for CEL: ${text}`);
  return `r'${text}'`;
}

interface TextOptions {
  readonly min?: number;
  /** In code points, as the API server counts; zod's own max() counts UTF-16 units. */
  readonly max: number;
  /** RE2 and JavaScript alike: no look-around, no back-references. */
  readonly pattern?: { readonly re: string; readonly message: string };
}

export function text({ min = 0, max, pattern }: TextOptions): z.ZodString {
  const bounded = z.string().superRefine((value, context) => {
    const length = codePoints(value);
    if (length < min)
      context.addIssue({
        code: 'custom',
        message: min === 1 ? 'must not be empty' : `must have at least ${min} characters`,
      });
    if (length > max) context.addIssue({ code: 'custom', message: `may not be more than ${max} characters` });
  });
  const schema = bounded.meta({ ...(min > 0 && { minLength: min }), maxLength: max });
  if (pattern === undefined) return schema;
  // A CEL rule rather than `pattern`: the API server then answers with our sentence and not with the expression.
  const expression = new RegExp(pattern.re, 'u');
  return withRules(schema, [
    {
      cel: `self.matches(${celString(pattern.re)})`,
      message: pattern.message,
      check: (value) => expression.test(value),
    },
  ]);
}

export function codePoints(value: string): number {
  let count = 0;
  for (const _ of value) count += 1;
  return count;
}

/** The first `max` code points, with an ellipsis when something was cut: keeps status within its own bounds. */
export function clip(value: string, max: number): string {
  const points = Array.from(value);
  return points.length <= max ? value : `${points.slice(0, max - 1).join('')}…`;
}

export const utf8Bytes = (value: string): number => Buffer.byteLength(value, 'utf8');

export const dnsLabel = (): z.ZodString =>
  text({
    min: 1,
    max: 63,
    pattern: {
      re: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
      message:
        'must be a DNS label: lower-case letters, digits and hyphens, beginning and ending with a letter or digit',
    },
  });

export const dnsSubdomain = (): z.ZodString =>
  text({
    min: 1,
    max: 253,
    pattern: {
      re: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$',
      message: 'must be a DNS subdomain: lower-case letters, digits, hyphens and dots',
    },
  });

export const imageReference = (): z.ZodString =>
  text({
    min: 1,
    max: 512,
    pattern: {
      re: '^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$',
      message:
        'must be a container image reference such as python:3.13-slim or registry.example.com/team/tool@sha256:…',
    },
  });

// One path segment: not ".", not "..", nothing that begins with ".." (the kubelet reserves those names in volumes),
// no control characters and no backslash.
const SEGMENT = '\\.?[^./\\\\\\x00-\\x1f\\x7f][^/\\\\\\x00-\\x1f\\x7f]*';

export const relativePath = (example: string): z.ZodString =>
  text({
    min: 1,
    max: 255,
    pattern: {
      re: `^${SEGMENT}(/${SEGMENT})*$`,
      message: `must be a relative path without "." or ".." in it, for example ${example}`,
    },
  });

/** A string of an argument vector or the environment: execve cannot pass a NUL. */
export const argument = (max: number): z.ZodString =>
  text({ max, pattern: { re: '^[^\\x00]*$', message: 'must not contain a NUL character' } });

export const environment = (): z.ZodArray<z.ZodObject<{ name: z.ZodString; value: z.ZodString }>> => {
  const variable = z.object({
    name: text({
      min: 1,
      max: 128,
      pattern: {
        re: '^[A-Za-z_][A-Za-z0-9_]*$',
        message: 'must be a name of letters, digits and underscores that does not begin with a digit, for example SEED',
      },
    }).describe(
      'Name of the variable. No name is reserved: Crucible itself passes nothing to the code through the environment.',
    ),
    value: argument(8192).describe('Plain value. Nothing is expanded and nothing is read from Secrets or ConfigMaps.'),
  });
  return listMap(variable, 64, 'name');
};

/** A list whose items have one key that is unique; the API server refuses duplicates by itself. */
export function listMap<S extends z.ZodObject>(item: S, max: number, key: keyof z.output<S> & string): z.ZodArray<S> {
  const schema = z
    .array(item)
    .max(max)
    .superRefine((items, context) => {
      const seen = new Set<unknown>();
      for (const [index, entry] of items.entries()) {
        const value = (entry as Record<string, unknown>)[key];
        if (seen.has(value))
          context.addIssue({ code: 'custom', path: [index, key], message: `Duplicate value: "${String(value)}"` });
        seen.add(value);
      }
    });
  return schema.meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] });
}

export const setOf = <S extends z.ZodType>(item: S, max: number): z.ZodArray<S> =>
  z
    .array(item)
    .min(1)
    .max(max)
    .superRefine((items, context) => {
      if (new Set(items).size !== items.length) context.addIssue({ code: 'custom', message: 'Duplicate value' });
    })
    .meta({ 'x-kubernetes-list-type': 'set' });

type QuantitySchema = z.ZodUnion<readonly [z.ZodInt, z.ZodString]>;

// People write `cpu: 1` as often as `cpu: "1"`; core Kubernetes takes both, and so do we.
function quantity(pattern: string, maximum: number, parse: (value: Quantity) => number): QuantitySchema {
  return z
    .union([z.int(), z.string()])
    .superRefine((value, context) => {
      try {
        parse(value);
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
      }
    })
    .meta({ 'x-kubernetes-int-or-string': true, pattern, minimum: 1, maximum });
}

export const bytes = (): QuantitySchema => quantity(BYTES_PATTERN, 1e15 - 1, parseBytes);
export const cpu = (): QuantitySchema => quantity(CPU_PATTERN, 9999, parseCpu);

export const timestamp = (): z.ZodString =>
  z
    .string()
    .refine((value) => !Number.isNaN(Date.parse(value)), 'must be an RFC 3339 time')
    .meta({ format: 'date-time', maxLength: 64 });

export const count = (): z.ZodInt => z.int().min(0).meta({ format: 'int64' });
