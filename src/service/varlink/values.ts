/** Values of JSON as the types of an interface say. */
import type { Descriptors } from './descriptors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import type { Fields, Received, Sent, Type } from './types.ts';

/** Names the first field that is not as its type says: `image.name`. */
export class InvalidField {
  readonly field: string;
  constructor(field: string) {
    this.field = field;
  }
}

/**
 * Checks fields that came. null is as good as a missing field.
 * @param descriptors those that came with them
 */
export function receive<F extends Fields>(
  fields: F,
  values: JsonObject,
  descriptors: Descriptors,
): Received<F> | InvalidField {
  try {
    return receiveFields(fields, values, '', descriptors) as Received<F>;
  } catch (error) {
    if (error instanceof InvalidField) return error;
    throw error;
  }
}

function receiveFields(fields: Fields, values: JsonObject, prefix: string, descriptors: Descriptors): unknown {
  for (const name of Object.keys(values)) if (!Object.hasOwn(fields, name)) throw new InvalidField(prefix + name);
  const received: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(fields))
    received[name] = receiveValue(type, values[name] ?? null, prefix + name, descriptors);
  return received;
}

function receiveValue(type: Type, value: Json, field: string, descriptors: Descriptors): unknown {
  switch (type.kind) {
    case 'maybe':
      return value === null ? undefined : receiveValue(type.of, value, field, descriptors);
    case 'named':
      return receiveValue(type.of, value, field, descriptors);
    case 'array':
      if (!Array.isArray(value)) throw new InvalidField(field);
      return value.map((one, i) => receiveValue(type.of, one, `${field}.${i}`, descriptors));
    case 'map':
      if (!isObject(value)) throw new InvalidField(field);
      return new Map(
        Object.entries(value).map(([name, one]) => [
          isText(name) ? name : refuse(field),
          receiveValue(type.of, one, `${field}.${name}`, descriptors),
        ]),
      );
    case 'struct':
      if (!isObject(value)) throw new InvalidField(field);
      return receiveFields(type.fields, value, `${field}.`, descriptors);
    case 'fd':
      return (Number.isSafeInteger(value) && descriptors.at(value as number)) || refuse(field);
    default:
      return isPlain(type, value) ? value : refuse(field);
  }
}

function refuse(field: string): never {
  throw new InvalidField(field);
}

/** Without NUL, which would end a path, and without half a character. */
const isText = (value: string): boolean => !/\0|\p{Surrogate}/u.test(value);

function isPlain(type: Type, value: Json): boolean {
  if (type.kind === 'string') return typeof value === 'string' && isText(value);
  if (type.kind === 'bool') return typeof value === 'boolean';
  if (type.kind === 'float') return Number.isFinite(value);
  if (type.kind === 'object') return isObject(value);
  if (type.kind === 'enum') return typeof value === 'string' && type.words.includes(value);
  if (type.kind !== 'int') return false;
  return Number.isSafeInteger(value) && type.least <= (value as number) && (value as number) <= type.most;
}

/**
 * Makes fields ready to be sent.
 * @param fds receives the descriptors to send with them
 */
export const toSend = <F extends Fields>(fields: F, values: Sent<F>, fds: number[]): JsonObject =>
  sendFields(fields, values as Readonly<Record<string, unknown>>, fds);

function sendFields(fields: Fields, values: Readonly<Record<string, unknown>>, fds: number[]): JsonObject {
  const present = Object.entries(fields).filter(([name]) => values[name] !== undefined);
  return Object.fromEntries(present.map(([name, type]) => [name, sendValue(type, values[name], fds)]));
}

function sendValue(type: Type, value: unknown, fds: number[]): Json {
  if (type.kind === 'fd') return placeOf(value as number, fds);
  if (type.kind === 'maybe' || type.kind === 'named') return sendValue(type.of, value, fds);
  if (type.kind === 'struct') return sendFields(type.fields, value as Readonly<Record<string, unknown>>, fds);
  if (type.kind === 'array') return (value as readonly unknown[]).map(one => sendValue(type.of, one, fds));
  if (type.kind === 'map') {
    const entries = [...(value as ReadonlyMap<string, unknown>)];
    return Object.fromEntries(entries.map(([name, one]) => [name, sendValue(type.of, one, fds)]));
  }
  return value as Json;
}

function placeOf(fd: number, fds: number[]): number {
  return fds.push(fd) - 1;
}
