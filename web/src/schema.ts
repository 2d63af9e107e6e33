// Checks a value against the API's own description, as far as that describes values: what the form says while somebody types is
// what the controller would say.
import type { Wrong } from './api';

export interface Schema {
  $ref?: string;
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  enum?: unknown[];
  oneOf?: Schema[];
  allOf?: Schema[];
  const?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
}
export type Schemas = Record<string, Schema>;

export function check(value: unknown, schema: Schema, all: Schemas, at = '', wrong: Wrong[] = []): Wrong[] {
  if (wrong.length > 200) return wrong;
  const say = (message: string, field = at) => void wrong.push({ field, message });
  if (schema.$ref) return check(value, all[schema.$ref.split('/').pop()!] ?? {}, all, at, wrong);
  for (const part of schema.allOf ?? []) check(value, part, all, at, wrong);
  if (schema.oneOf) {
    if (!schema.oneOf.some((part) => !check(value, part, all, at, []).length)) {
      const words = schema.oneOf.flatMap((part) => part.enum ?? (part.const !== undefined ? [part.const] : []));
      say(words.length ? `is none of ${words.map((word) => JSON.stringify(word)).join(', ')}` : 'is not as it can be');
    }
    return wrong;
  }
  const types = schema.type === undefined ? undefined : [schema.type].flat();
  if (types && !types.some((type) => is(value, type))) {
    say(`is ${name(value)}, where ${types.map((type) => WORDS[type] ?? type).join(' or ')} is needed`);
    return wrong;
  }
  if (schema.enum && !schema.enum.includes(value)) {
    say(`is none of ${schema.enum.map((word) => JSON.stringify(word)).join(', ')}`);
  }
  if (typeof value === 'number') {
    const [least, most] = [schema.minimum ?? -Infinity, schema.maximum ?? Infinity];
    if (value < least || value > most) {
      say(most === Infinity ? `${value} is less than ${least}` : `${value} is not ${least} to ${most}`);
    }
  } else if (typeof value === 'string') {
    if (!value && schema.minLength) say('is empty');
    else if (schema.maxLength !== undefined && value.length > schema.maxLength) say(`is longer than ${schema.maxLength} characters`);
    else if (schema.pattern && !new RegExp(schema.pattern, 'u').test(value)) say(hint(schema.pattern));
  } else if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0)) say('is empty');
    if (value.length > (schema.maxItems ?? Infinity)) say(`has more than ${schema.maxItems}`);
    if (schema.items) value.forEach((item, i) => check(item, schema.items!, all, `${at}[${i}]`, wrong));
  } else if (value && typeof value === 'object') {
    const path = (name: string) => (at ? `${at}.${name}` : name);
    for (const name of schema.required ?? []) if (!Object.hasOwn(value, name)) say('is missing', path(name));
    for (const [name, child] of Object.entries(value)) {
      const of = schema.properties && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
      if (of) check(child, of, all, path(name), wrong);
      else if (schema.additionalProperties === false) say('is not known here', path(name));
      else if (typeof schema.additionalProperties === 'object') check(child, schema.additionalProperties, all, path(name), wrong);
    }
  }
  return wrong;
}

const WORDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  null: 'null',
};

function is(value: unknown, type: string): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'integer':
      return Number.isInteger(value);
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

function name(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return String(value);
  return WORDS[typeof value] ?? typeof value;
}

function hint(pattern: string): string {
  if (pattern.includes('{64}')) return 'is no digest of a module: 64 hexadecimal digits';
  if (pattern === '^\\S+$') return 'cannot be a label: use no spaces';
  if (!pattern.includes('_')) return "cannot be a node's name: use letters, digits and '-'";
  return "cannot be a name: use letters, digits, '-', '_' and '.'";
}
