/**
 * The text of a policy. Source: containers-policy.json(5), as strict as that: unknown, double and missing fields are errors. The
 * requirement `composefsSigned` is ours.
 */
import * as v from 'valibot';
import { checked, parse } from '../oci/documents.ts';
import { byteStringFromText } from '../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';

const Path = v.pipe(v.string(), v.startsWith('/', 'is no absolute path'));
const Words = v.optional(v.record(v.string(), v.string()));
const Text = v.optional(v.string());
const Texts = v.optional(v.array(v.string()));
const OfKeys = { keyPath: Text, keyPaths: Texts, keyData: Text, signedIdentity: Words };
const Requirement = v.variant('type', [
  v.strictObject({ type: v.literal('insecureAcceptAnything') }),
  v.strictObject({ type: v.literal('reject') }),
  v.strictObject({
    type: v.literal('composefsSigned'),
    keyDirectories: v.optional(v.pipe(v.array(Path), v.minLength(1, 'is empty'))),
  }),
  v.strictObject({ type: v.literal('signedBy'), keyType: Text, ...OfKeys }),
  v.strictObject({
    type: v.literal('sigstoreSigned'),
    ...OfKeys,
    ...{ keyDatas: Texts, fulcio: Words, pki: Words },
    ...{ rekorPublicKeyPath: Text, rekorPublicKeyPaths: Texts, rekorPublicKeyData: Text, rekorPublicKeyDatas: Texts },
  }),
]);
/** What an image has to be like. */
export type Requirement = v.InferOutput<typeof Requirement>;

const Requirements = v.pipe(v.array(Requirement), v.minLength(1, 'is empty: one requirement is needed at least'));
const Document = v.strictObject({
  default: Requirements,
  transports: v.optional(v.record(v.string(), v.record(v.string(), Requirements))),
});

/** Requirements by transport and scope. */
export interface PolicyRules {
  readonly default: readonly Requirement[];
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>>;
}

/** Parses a policy. Throws ErrnoError EUCLEAN with the place of the first fault. @param what its name, for messages */
export function parsePolicy(bytes: Uint8Array, what: string): PolicyRules {
  const json = parse(bytes, what);
  const { default: otherwise, transports = {} } = checked(Document, json, what);
  refuseOddKeys(json, bytes, what); // after the schema has bounded the depth
  const scoped = Object.entries(transports).map(([name, scopes]) => {
    const entries = Object.entries(scopes).map(([scope, list]) => [byteStringFromText(scope), list] as const);
    return [name, new Map(entries)] as const;
  });
  return { default: otherwise, transports: new Map(scoped) };
}

/** Names that schemas pass over without a word. */
const SKIPPED: readonly string[] = ['__proto__', 'constructor', 'prototype'];

/** JSON.parse takes the last of two fields of one name: the text then has more names than the value. */
function refuseOddKeys(json: unknown, bytes: Uint8Array, what: string): void {
  const keys = keysOf(json);
  const odd = keys.find(key => SKIPPED.includes(key));
  if (odd !== undefined) throw new ErrnoError(EUCLEAN, `${what}: ${odd}: is no name of a field`);
  const strings = new TextDecoder().decode(bytes).matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g);
  let count = 0;
  for (const [, colon] of strings) if (colon !== undefined) count++;
  if (count !== keys.length) throw new ErrnoError(EUCLEAN, `${what}: a field stands there twice`);
}

function keysOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const own = Array.isArray(value) ? [] : Object.keys(value);
  return [...own, ...Object.values(value).flatMap(keysOf)];
}
