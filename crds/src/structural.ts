import * as z from 'zod';
import { re2Problem } from './re2.ts';

// zod → the subset of OpenAPI 3.0 that Kubernetes calls structural. What is outside of it is refused with its path, never
// dropped: a constraint that silently does not reach the API server is worse than a build that fails.

export type StructuralSchema = { [key: string]: unknown };

/** Thrown with the path and what to write instead. */
export class NotStructuralError extends Error {
  override readonly name = 'NotStructuralError';
  constructor(path: string, problem: string) {
    super(`${path}: ${problem}`);
  }
}

const COMMON = ['type', 'description', 'default', 'enum', 'format', 'nullable', 'x-kubernetes-validations'];
const EXTRA: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties', 'x-kubernetes-map-type'],
  array: ['items', 'minItems', 'maxItems', 'x-kubernetes-list-type', 'x-kubernetes-list-map-keys'],
  string: ['minLength', 'maxLength', 'pattern'],
  integer: ['minimum', 'maximum'],
  number: ['minimum', 'maximum'],
  boolean: [],
};
const INT_OR_STRING = ['description', 'default', 'pattern', 'minimum', 'maximum', 'x-kubernetes-int-or-string'];

const REASONS: Readonly<Record<string, string>> = {
  anyOf: 'a union is not structural: make the alternatives optional fields and add a rule',
  oneOf: 'a union is not structural: make the alternatives optional fields and add a rule',
  allOf: 'combined checks are not structural: write one pattern, or a rule',
  not: 'a negation is not structural: add a rule',
  $ref: 'a reference (recursion, or meta({id})) is not structural: write the schema in place',
  readOnly: 'readonly() is not structural: leave it out',
  propertyNames: 'constraints on the keys of a map are not structural: add a rule',
};

/** The structural schema of a zod schema, bounded and described; throws NotStructuralError. */
export function toStructuralSchema(schema: z.ZodType, path: string): StructuralSchema {
  return convert(jsonSchema(schema, path), path);
}

function jsonSchema(schema: z.ZodType, path: string): StructuralSchema {
  try {
    // Input mode: output mode closes every object with additionalProperties: false.
    const { definitions: _, ...root } = z.toJSONSchema(schema, {
      target: 'openapi-3.0',
      io: 'input',
    }) as StructuralSchema;
    return root;
  } catch (error) {
    throw new NotStructuralError(path, (error as Error).message); // transforms, bigint, dates: no JSON Schema at all
  }
}

function convert(node: StructuralSchema, path: string): StructuralSchema {
  if (node['x-kubernetes-int-or-string'] === true) return intOrString(node, path);
  // A reference with a description comes wrapped in allOf.
  if (Array.isArray(node['allOf']) && node['allOf'].some((part) => '$ref' in part))
    throw new NotStructuralError(path, REASONS['$ref'] ?? '');
  for (const [keyword, reason] of Object.entries(REASONS))
    if (keyword in node) throw new NotStructuralError(path, reason);
  const type = node['type'];
  const extra = typeof type === 'string' ? EXTRA[type] : undefined;
  if (extra === undefined)
    throw new NotStructuralError(path, 'a value of any type is not structural: say which type it has');
  refuseUnknown(node, [...COMMON, ...extra], path);
  if (type === 'string') checkString(node, path);
  if (type === 'array') return convertArray(node, path);
  if (type === 'object') return convertObject(node, path);
  return type === 'integer' ? withoutSafeBounds(node) : node;
}

function refuseUnknown(node: StructuralSchema, known: readonly string[], path: string): void {
  const unknown = Object.keys(node).filter((key) => !known.includes(key));
  if (unknown.length > 0)
    throw new NotStructuralError(path, `${unknown.join(', ')} cannot be said in a structural schema here`);
}

/** The only union that Kubernetes knows: an integer or a string. */
function intOrString({ anyOf, ...node }: StructuralSchema, path: string): StructuralSchema {
  const types = Array.isArray(anyOf) ? anyOf.map((entry: StructuralSchema) => entry['type']) : [];
  if (types.length !== 2 || types[0] !== 'integer' || types[1] !== 'string') {
    throw new NotStructuralError(
      path,
      'x-kubernetes-int-or-string needs a union of an integer and a string, in this order',
    );
  }
  refuseUnknown(node, INT_OR_STRING, path);
  if (node['pattern'] === undefined)
    throw new NotStructuralError(path, 'an integer or string needs a pattern that bounds the string');
  checkPattern(node, path);
  return { anyOf: [{ type: 'integer' }, { type: 'string' }], ...node };
}

function checkString(node: StructuralSchema, path: string): void {
  if (node['maxLength'] === undefined && node['enum'] === undefined) {
    throw new NotStructuralError(
      path,
      'a string needs a maximum length: CEL rules are charged for the longest possible one',
    );
  }
  checkPattern(node, path);
}

function checkPattern(node: StructuralSchema, path: string): void {
  const problem = re2Problem(String(node['pattern'] ?? ''));
  if (problem !== undefined) throw new NotStructuralError(path, `the pattern has ${problem}, which RE2 refuses`);
}

function convertArray(node: StructuralSchema, path: string): StructuralSchema {
  if (node['maxItems'] === undefined) throw new NotStructuralError(path, 'a list needs a maximum number of items');
  const items = node['items'] as StructuralSchema | undefined;
  if (items === undefined) throw new NotStructuralError(path, 'a list needs a schema for its items');
  return { ...node, items: convert(items, `${path}[]`) };
}

function convertObject(node: StructuralSchema, path: string): StructuralSchema {
  const { additionalProperties: values, properties, ...rest } = node;
  if (values === false)
    throw new NotStructuralError(
      path,
      'a strict object is not structural: use z.object(), the API server prunes what it does not know',
    );
  if (values !== undefined) {
    if (properties !== undefined)
      throw new NotStructuralError(path, 'a loose object is not structural: name its fields, or use z.record()');
    if (node['maxProperties'] === undefined) throw new NotStructuralError(path, 'a map needs meta({ maxProperties })');
    return { ...rest, additionalProperties: convert(values as StructuralSchema, `${path}{}`) };
  }
  const fields = Object.entries((properties ?? {}) as Record<string, StructuralSchema>);
  const converted = fields.map(([name, field]) => [name, convert(field, `${path}.${name}`)] as const);
  for (const [name, field] of fields)
    checkField(
      name,
      field,
      fields.map(([other]) => other),
      path,
    );
  return { ...rest, properties: Object.fromEntries(converted) };
}

function checkField(name: string, field: StructuralSchema, siblings: readonly string[], path: string): void {
  const meaning = yamlBoolean(name);
  if (meaning !== undefined && !siblings.includes(meaning)) {
    throw new NotStructuralError(
      `${path}.${name}`,
      `kubectl reads an unquoted ${name} as ${meaning}: choose another name, or add a field ${meaning}`,
    );
  }
  if (typeof field['description'] !== 'string')
    throw new NotStructuralError(`${path}.${name}`, 'a field needs a description: kubectl explain shows it');
}

/** What YAML 1.1 takes an unquoted word for. */
function yamlBoolean(name: string): string | undefined {
  if (/^(y|yes|on|true)$/i.test(name)) return 'true';
  return /^(n|no|off|false)$/i.test(name) ? 'false' : undefined;
}

/** zod bounds every integer to what JavaScript can hold; said in a CRD that would look like a decision of ours. */
function withoutSafeBounds(node: StructuralSchema): StructuralSchema {
  const { minimum, maximum, ...rest } = node;
  return {
    ...rest,
    ...(minimum !== Number.MIN_SAFE_INTEGER && minimum !== undefined && { minimum }),
    ...(maximum !== Number.MAX_SAFE_INTEGER && maximum !== undefined && { maximum }),
  };
}
