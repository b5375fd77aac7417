import { isDeepStrictEqual } from 'node:util';
import fastJsonStringify, { type Schema } from 'fast-json-stringify';
import * as z from 'zod';

type Serialize = (answer: unknown) => string;

interface Answer {
  readonly schema: unknown;
  readonly method: string;
  readonly url: string;
}

/**
 * Answers are written by code that is generated from the route's schema: what the schema does not name cannot leave, what it
 * requires has to be there, and nothing is spent on whether each value is of its type. `checked` does look, and compares what
 * is written with what zod makes of it: tests run so, a server does not.
 */
export function serializers(checked: boolean): (answer: Answer) => Serialize {
  const made = new WeakMap<z.ZodType, Serialize>();
  return ({ schema, method, url }) => {
    if (!(schema instanceof z.ZodType)) throw new Error(`${method} ${url}: the schema of an answer is not one of zod`);
    // At the first answer: most of the contract's problems are never written by a schema.
    const serialize: Serialize = (answer) => {
      let found = made.get(schema);
      if (found === undefined) made.set(schema, (found = fastJsonStringify(toJsonSchema(schema) as Schema)));
      return found(answer);
    };
    return checked ? (answer) => check(schema, answer, serialize(answer), `${method} ${url}`) : serialize;
  };
}

function check(schema: z.ZodType, answer: unknown, text: string, route: string): string {
  const wanted: unknown = JSON.parse(JSON.stringify(z.encode(schema, answer as never)));
  if (!isDeepStrictEqual(JSON.parse(text), wanted)) throw new Error(`${route}: ${text.slice(0, 2000)} is written, and the contract has ${JSON.stringify(wanted).slice(0, 2000)}`);
  return text;
}

/** Without names: a reference could not be null. */
function toJsonSchema(schema: z.ZodType): object {
  return nullable(z.toJSONSchema(schema, {
    target: 'draft-7', io: 'output', unrepresentable: 'any', metadata: z.registry(), reused: 'inline',
    override: ({ zodSchema, jsonSchema }) => {
      if (zodSchema._zod.def.type === 'date') Object.assign(jsonSchema, { type: 'string', format: 'date-time' });
    },
  })) as object;
}

/** "This or null" as one word: for alternatives each value would be looked at to find out which one it is. */
function nullable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(nullable);
  if (value === null || typeof value !== 'object') return value;
  const { anyOf, ...rest } = Object.fromEntries(Object.entries(value).map(([key, child]) => [key, nullable(child)]));
  if (anyOf === undefined) return rest;
  const others = (anyOf as { type?: string }[]).filter(({ type }) => type !== 'null');
  return others.length === 1 && others.length < (anyOf as unknown[]).length ? { ...others[0], ...rest, nullable: true } : { ...rest, anyOf };
}
