/** The events of a lookup, for a caller that explains it. The rules are those of docs/semantics.md, by their names there. */
import type { Inode } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';
import type { Node } from './node.ts';

/**
 * Each rule in a few words, for the output of `explain`.
 * @example
 * assert.equal(RULES.W1, 'a character device 0:0 is a whiteout');
 */
export const RULES = {
  L3: 'a name of more than 255 bytes',
  L4: 'how layers merge',
  L5: 'the options do not allow following it into a normal layer',
  L6: 'the lowest layer: neither opaque nor redirect is read',
  L7: 'the data is deferred to the data-only layers, until the first open',
  L8: 'a metacopy file without data',
  W1: 'a character device 0:0 is a whiteout',
  W3: 'an empty regular file with the xattr whiteout is a whiteout',
  W5: 'opaque=x: regular files in it may be whiteouts',
  O2: 'an opaque directory ends the search',
  R2: 'a redirect',
  R3: 'an invalid redirect',
  R4: 'a component that is empty, . or ..',
  R6: 'an absolute redirect: the layers below are searched from their roots',
  R7: 'passing a directory or a metacopy file forgets an absolute redirect',
  U1: 'index=on: a name of a file that has one copy for all its names',
  M1: 'a metacopy file: its data is elsewhere',
  M2: 'a malformed metacopy value',
  A1: 'its data is its own, or was found in a normal layer by lookup',
  A2: 'data-only layers are searched in order for a regular file',
  A4: 'the error of the last data-only layer',
  'P-D1': '`//` with an invalid path, or where it is not understood',
  'P-D2': '`//` leads to data-only layers and nowhere else',
  'P-D5': '`//` on an inode that is not a metacopy file',
  'P-O1': 'no usable origin, or none that may be followed',
  'P-O2': 'an empty redirect: the data has no path, only an origin',
  'P-O3': 'not found in normal layers: deferred to the origin',
  'P-O4': 'not found in data-only layers: the origin is tried',
  'P-O5': 'the origin is followed, and the digest decides',
} as const;
/** The name of a rule in docs/semantics.md. */
export type RuleName = keyof typeof RULES;

/** Receives events in the order in which they happen. Tracing costs nothing while it is off: its arguments are not computed. */
export interface Trace {
  /** A name is looked up in a directory of the overlay. */
  lookup(name: ByteString): void;
  /** A layer is searched for a name, or for a path from its root if `name` begins with a slash. */
  layer(path: string, name: ByteString): void;
  /** The inode that the layer holds under one component; undefined if it holds none. */
  component(name: ByteString, found: Inode | undefined): void;
  /** A rule decided something. @param detail its result in this case */
  rule(rule: RuleName, detail?: string): void;
  /** The result of the lookup: a node, or a negative errno. */
  outcome(found: Node | number): void;
}
