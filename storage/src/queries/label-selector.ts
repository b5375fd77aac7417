/** One requirement of a label selector; all must hold. As in Kubernetes, `notIn` also holds where the label is absent. */
export interface LabelRequirement {
  key: string;
  operator: 'in' | 'notIn' | 'exists' | 'absent';
  /** Of `in` and `notIn`; else empty. */
  values: readonly string[];
}

const MAX_REQUIREMENTS = 20;
const MAX_VALUES = 50;
const KEY = '(?:[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?';
const VALUE = '(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?';
const EQUALITY = new RegExp(`^(?<key>${KEY})\\s*(?<operator>==?|!=)\\s*(?<value>${VALUE})$`);
const SET = new RegExp(`^(?<key>${KEY})\\s+(?<operator>in|notin)\\s*\\((?<values>[^()]*)\\)$`);
const EXISTENCE = new RegExp(`^(?<not>!?)\\s*(?<key>${KEY})$`);
const ONE_VALUE = new RegExp(`^${VALUE}$`);

/** Kubernetes' syntax: `a=b,c!=d,e in (x,y),f notin (z),g,!h`. Throws RangeError that says which part cannot be read. */
export function parseLabelSelector(text: string): LabelRequirement[] {
  if (text.trim() === '') return [];
  // Commas inside of parentheses do not separate.
  const parts = text.split(/,(?![^(]*\))/).map((part) => part.trim());
  if (parts.length > MAX_REQUIREMENTS) throw new RangeError(`a label selector has at most ${MAX_REQUIREMENTS} requirements`);
  return parts.map(parseRequirement);
}

function parseRequirement(part: string): LabelRequirement {
  const equality = EQUALITY.exec(part)?.groups;
  if (equality !== undefined) {
    return { key: equality['key']!, operator: equality['operator'] === '!=' ? 'notIn' : 'in', values: [equality['value']!] };
  }
  const set = SET.exec(part)?.groups;
  if (set !== undefined) {
    const values = [...new Set(set['values']!.split(',').map((value) => value.trim()))];
    if (values.length <= MAX_VALUES && values.every((value) => ONE_VALUE.test(value)))
      return { key: set['key']!, operator: set['operator'] === 'in' ? 'in' : 'notIn', values };
  }
  const existence = EXISTENCE.exec(part)?.groups;
  if (existence !== undefined) return { key: existence['key']!, operator: existence['not'] === '!' ? 'absent' : 'exists', values: [] };
  throw new RangeError(`the label selector cannot be read at "${part.slice(0, 80)}": write key=value, key!=value, key in (a,b), key or !key`);
}
