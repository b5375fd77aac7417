// What of a contract clients rely on, compared between two of them. Our own, because it is the part of OpenAPI that our
// generator emits, and no more.

export interface Contract {
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> };
}

interface Operation {
  readonly operationId?: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema?: Schema }[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> }>>;
}

/** A value below or above is refused. */
const LOWER = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties'] as const;
const UPPER = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties'] as const;
/** Which of two takes more nobody can tell: any other than the one that was is a change. */
const SHAPES = ['pattern', 'format', 'multipleOf', 'uniqueItems'] as const;

export interface Schema extends Partial<Readonly<Record<(typeof LOWER)[number] | (typeof UPPER)[number], number>>>, Partial<Readonly<Record<(typeof SHAPES)[number], unknown>>> {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: boolean | Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
}

/** Sentences; none: whoever worked with `before` works with `after`. */
export function breakingChanges(before: Contract, after: Contract): string[] {
  return Object.entries(before.paths).flatMap(([path, operations]) =>
    Object.entries(operations).flatMap(([method, operation]) => {
      const where = `${method.toUpperCase()} ${path}`;
      const now = after.paths[path]?.[method];
      if (now === undefined) return [`${where} is gone`];
      return [...operationChanges(where, [operation, before], [now, after]), ...bodyChanges(where, [operation, before], [now, after])];
    }),
  );
}

type In = readonly [Operation, Contract];

function operationChanges(where: string, [before, oldContract]: In, [after, newContract]: In): string[] {
  const key = (parameter: { name: string; in: string }) => `${parameter.in} ${parameter.name}`;
  const old = new Map((before.parameters ?? []).map((parameter) => [key(parameter), parameter]));
  const now = new Map((after.parameters ?? []).map((parameter) => [key(parameter), parameter]));
  return [
    ...(before.operationId === after.operationId ? [] : [`${where}: operationId ${before.operationId} is now ${after.operationId}`]),
    ...[...old.keys()].filter((name) => !now.has(name)).map((name) => `${where}: parameter ${name} is gone`),
    ...[...now.values()]
      .filter((parameter) => parameter.required === true && old.get(key(parameter))?.required !== true)
      .map((parameter) => `${where}: parameter ${key(parameter)} is required now`),
    ...[...old.entries()].flatMap(([name, { schema }]) => {
      const newer = now.get(name);
      return newer === undefined ? [] : schemaChanges(`${where}: parameter ${name}`, [schema ?? {}, oldContract], [newer.schema ?? {}, newContract], 'accepts', new Set());
    }),
  ];
}

function bodyChanges(where: string, [before, oldContract]: In, [after, newContract]: In): string[] {
  const changes: string[] = [];
  for (const [type, { schema }] of Object.entries(before.requestBody?.content ?? {})) {
    const now = after.requestBody?.content[type]?.schema;
    if (now === undefined) changes.push(`${where}: a body of ${type} is not taken any more`);
    else changes.push(...schemaChanges(`${where}: body`, [schema, oldContract], [now, newContract], 'accepts', new Set()));
  }
  for (const [status, { content }] of Object.entries(before.responses)) {
    if (!status.startsWith('2')) continue;
    for (const [type, { schema }] of Object.entries(content ?? { '': {} })) {
      const now = after.responses[status];
      if (now === undefined || (type !== '' && now.content?.[type] === undefined)) changes.push(`${where}: answer ${status} ${type} is gone`);
      else if (schema !== undefined) {
        const newer = now.content?.[type]?.schema ?? {};
        changes.push(...schemaChanges(`${where}: answer ${status}`, [schema, oldContract], [newer, newContract], 'gives', new Set()));
      }
    }
  }
  return changes;
}

/** `accepts`: what clients send must still be taken. `gives`: what clients read must still be there. */
type Direction = 'accepts' | 'gives';

function schemaChanges(where: string, [older, oldContract]: [Schema, Contract], [newer, newContract]: [Schema, Contract], direction: Direction, seen: Set<string>): string[] {
  if (older.$ref !== undefined) {
    if (seen.has(older.$ref)) return [];
    seen = new Set([...seen, older.$ref]);
  }
  const [before, after] = [resolve(older, oldContract), resolve(newer, newContract)];
  const changes = [...enumChanges(where, before, after, direction), ...limitChanges(where, before, after, direction)];
  if (!sameType(before, after, direction)) changes.push(`${where}: was ${typeText(before)}, is ${typeText(after)}`);
  for (const [name, property] of Object.entries(before.properties ?? {})) {
    const now = after.properties?.[name];
    if (now === undefined) changes.push(`${where}.${name} is gone`);
    else changes.push(...schemaChanges(`${where}.${name}`, [property, oldContract], [now, newContract], direction, seen));
  }
  const [from, to] = direction === 'accepts' ? [before, after] : [after, before];
  for (const name of to.required ?? []) {
    if (from.required?.includes(name)) continue;
    if (direction === 'accepts') changes.push(`${where}.${name} is required now`);
    else if (after.properties?.[name] !== undefined) changes.push(`${where}.${name} may be missing now`);
  }
  if (before.items !== undefined && after.items !== undefined)
    changes.push(...schemaChanges(`${where}[]`, [before.items, oldContract], [after.items, newContract], direction, seen));
  const [other, otherNow] = [before.additionalProperties ?? true, after.additionalProperties ?? true];
  if (typeof other === 'object' && typeof otherNow === 'object')
    changes.push(...schemaChanges(`${where}.*`, [other, oldContract], [otherNow, newContract], direction, seen));
  else if (direction === 'accepts' && other !== false && otherNow !== true) changes.push(`${where}: not every other field is taken any more`);
  return [...changes, ...choiceChanges(where, [before, oldContract], [after, newContract], direction, seen)];
}

/** Alternatives are compared in their order: our generator does not shuffle them. */
function choiceChanges(where: string, [before, oldContract]: [Schema, Contract], [after, newContract]: [Schema, Contract], direction: Direction, seen: Set<string>): string[] {
  const [old, now] = [before.anyOf ?? before.oneOf ?? [], after.anyOf ?? after.oneOf ?? []];
  if (direction === 'gives' ? now.length > old.length && old.length > 0 : now.length < old.length)
    return [`${where}: ${old.length} alternatives are ${now.length} now`];
  return old.flatMap((each, index) => (now[index] === undefined ? [] : schemaChanges(where, [each, oldContract], [now[index], newContract], direction, seen)));
}

function enumChanges(where: string, before: Schema | undefined, after: Schema | undefined, direction: Direction): string[] {
  const [old, now] = [valuesOf(before), valuesOf(after)];
  if (old === undefined || (now === undefined && direction === 'accepts')) return [];
  if (now === undefined) return [`${where}: may be any value now`];
  const [have, need] = direction === 'accepts' ? [now, old] : [old, now];
  const missing = need.filter((value) => !have.includes(value));
  return missing.length === 0 ? [] : [`${where}: ${missing.join(', ')} ${direction === 'accepts' ? 'is not taken any more' : 'is new'}`];
}

/** Of what is sent no less may be taken; of what is read no more may come. */
function limitChanges(where: string, before: Schema, after: Schema, direction: Direction): string[] {
  const [inner, outer] = direction === 'accepts' ? [before, after] : [after, before];
  const tighter = [
    ...LOWER.filter((limit) => (outer[limit] ?? -Infinity) > (inner[limit] ?? -Infinity)),
    ...UPPER.filter((limit) => (outer[limit] ?? Infinity) < (inner[limit] ?? Infinity)),
    ...SHAPES.filter((limit) => outer[limit] !== undefined && outer[limit] !== inner[limit]),
  ];
  return tighter.map((limit) => `${where}: ${limit} was ${String(before[limit] ?? 'any')}, is ${String(after[limit] ?? 'any')}`);
}

const valuesOf = (schema: Schema | undefined): readonly unknown[] | undefined => schema?.enum ?? (schema?.const === undefined ? undefined : [schema.const]);

const typesOf = ({ type }: Schema): readonly string[] => (type === undefined ? [] : typeof type === 'string' ? [type] : type);
const typeText = (schema: Schema): string => typesOf(schema).join(' or ') || 'anything';

function sameType(before: Schema, after: Schema, direction: Direction): boolean {
  const [old, now] = [typesOf(before), typesOf(after)];
  const [wide, narrow] = direction === 'accepts' ? [now, old] : [old, now];
  if (wide.length === 0) return true;
  return narrow.length > 0 && narrow.every((type) => wide.includes(type) || (type === 'integer' && wide.includes('number')));
}

function resolve(schema: Schema, contract: Contract): Schema {
  const name = schema.$ref?.split('/').at(-1);
  return name === undefined ? schema : (contract.components?.schemas?.[name] ?? {});
}
