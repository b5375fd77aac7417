import fc from 'fast-check';

// Objects of every wrong shape, made from a schema itself.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly enum?: readonly Json[];
  readonly minimum?: number;
  readonly maximum?: number;
}
type Step = string | number;

/** Every place the schema knows, and what belongs there; an item of a list is index 0, a key of a map is A. */
function places(schema: Schema, path: Step[] = []): { path: Step[]; schema: Schema }[] {
  const below = (child: Schema | undefined, step: Step): { path: Step[]; schema: Schema }[] =>
    child === undefined ? [] : places(child, [...path, step]);
  return [
    { path, schema },
    ...Object.entries(schema.properties ?? {}).flatMap(([name, child]) => below(child, name)),
    ...below(schema.items, 0),
    ...below(schema.additionalProperties, 'A'),
  ];
}

const STRANGE_TEXTS = ['', ' ', '\u0000', '\ufffd', '../..', '/', 'true', '0x10', '1e9', 'a b', 'A', '.stdin', 'x'.repeat(70_000)];
const text = fc.oneof(fc.constantFrom(...STRANGE_TEXTS), fc.string({ unit: 'binary', maxLength: 40 }));
const number = fc.oneof(
  fc.constantFrom<Json>(0, -1, 1.5, 2 ** 31, 2 ** 53, -(2 ** 63), 1e300),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const SMALL: readonly Json[] = [[], {}, [[]], [null], [{}], { unknown: 1 }, { path: 'x' }, [{ path: 'x', content: 'y' }, { path: 'x', content: 'z' }]];
const anything: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, false, ...SMALL),
  text,
  number,
  fc.array(fc.oneof(fc.string(), fc.integer(), fc.constant(null)), { maxLength: 70 }) as fc.Arbitrary<Json>,
  fc.dictionary(fc.string({ maxLength: 5 }), fc.oneof(fc.string(), fc.integer()), { maxKeys: 3 }) as fc.Arbitrary<Json>,
);

/** Of the right type, so that more than the type decides. */
export function likely({ type, enum: values, minimum = 0, maximum = 100 }: Schema): fc.Arbitrary<Json> {
  if (values !== undefined) return fc.constantFrom(...values);
  if (type === 'boolean') return fc.boolean();
  if (type === 'integer' || type === 'number') return fc.integer({ min: minimum - 1, max: maximum + 1 });
  if (type === 'array') return fc.constantFrom<Json>([], ['A'], [{ name: 'A', value: '1' }], [{ path: 'a', content: '' }]);
  if (type === 'string') return fc.oneof(text, fc.constantFrom('a', 'python', '1', '1Mi', 'out/**'));
  return fc.constantFrom<Json>({}, '1Mi', 7, { A: '1' });
}

export interface Change {
  readonly path: readonly Step[];
  readonly value: Json;
}

/** Something that does not belong there, or just might, at any place that the schema knows; some places it does not. */
export function changes(schema: Schema): fc.Arbitrary<Change> {
  const known = places(schema);
  return fc.constantFrom(...known).chain(({ path, schema }) => {
    const value = fc.oneof(likely(schema), anything);
    const extra = fc.option(fc.string({ minLength: 1, maxLength: 8 }), { nil: undefined, freq: 12 });
    return fc.record({ value, extra }).map(({ value, extra }) => ({ path: extra === undefined ? path : [...path, extra], value }));
  });
}

/** The same with `value` at that place; what is missing on the way there is made. */
export function put(into: Json, { path: [step, ...path], value }: Change): Json {
  if (step === undefined) return value;
  if (typeof step === 'number') {
    const list = Array.isArray(into) ? [...into] : [];
    list[step] = put(list[step] ?? null, { path, value });
    return list;
  }
  const object = typeof into === 'object' && into !== null && !Array.isArray(into) ? into : {};
  return { ...object, [step]: put(object[step] ?? null, { path, value }) };
}
