/**
 * The messages of varlink.
 * Source: https://varlink.org/Method-Call; systemd, sd-varlink(3).
 */
import { EPROTO, ErrnoError } from '../../sys/errno.ts';
import { isObject, type Json, type JsonObject, parseJson } from './json.ts';

export interface Call {
  readonly interface: string;
  readonly method: string;
  readonly parameters: JsonObject;
  /** Whether the client takes more than one reply. */
  readonly more: boolean;
  /** Whether the client wants no reply. */
  readonly oneway: boolean;
  /** A field of the message that this service does not know, or that has the wrong type. */
  readonly wrong: string | undefined;
}

export interface Reply {
  readonly parameters: JsonObject;
  readonly continues: boolean;
  readonly error: string | undefined;
}

const NONE: JsonObject = {};
const parametersOf = (value: Json | undefined): JsonObject | undefined =>
  value === undefined || value === null ? NONE : isObject(value) ? value : undefined;

/** `upgrade` is refused if it is true: after a call, the connection goes on as before. */
const FLAGS = ['more', 'oneway', 'upgrade'];

function messageOf(bytes: Uint8Array, depth: number): JsonObject {
  const message = parseJson(bytes, depth);
  if (!isObject(message)) throw new ErrnoError(EPROTO, 'a message is no object');
  return message;
}

/** Reads a call. Throws ErrnoError, EPROTO, if nothing in it can be answered. */
export function parseCall(bytes: Uint8Array, depth: number): Call {
  const { method: path, parameters: given, ...others } = messageOf(bytes, depth);
  if (typeof path !== 'string') throw new ErrnoError(EPROTO, 'a message names no method');
  const at = path.lastIndexOf('.');
  const parameters = parametersOf(given);
  const wrong =
    Object.keys(others).find(name => !FLAGS.includes(name) || typeof others[name] !== 'boolean') ??
    (others.upgrade ? 'upgrade' : others.more && others.oneway ? 'more' : undefined);
  return {
    interface: path.slice(0, Math.max(at, 0)),
    method: path.slice(at + 1),
    parameters: parameters ?? NONE,
    more: others.more === true,
    oneway: others.oneway === true,
    wrong: wrong ?? (parameters ? undefined : 'parameters'),
  };
}

/** Reads a reply. Throws ErrnoError, EPROTO. */
export function parseReply(bytes: Uint8Array, depth: number): Reply {
  const { parameters: given, continues = false, error } = messageOf(bytes, depth);
  const parameters = parametersOf(given);
  if (!parameters || typeof continues !== 'boolean' || (error !== undefined && typeof error !== 'string'))
    throw new ErrnoError(EPROTO, 'a message is no reply');
  return { parameters, continues, error };
}
