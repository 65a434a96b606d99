/** Walks a stack as programs do, and checks that its answers are consistent. */

import { Explainer, Recorder } from '../../src/inspect/explain.ts';
import { hazards } from '../../src/inspect/hazards.ts';
import { inventory } from '../../src/inspect/inventory.ts';
import type { Inode } from '../../src/layers/layer.ts';
import type { Node } from '../../src/overlay/node.ts';
import type { Overlay } from '../../src/overlay/overlay.ts';
import { isWhiteout } from '../../src/overlay/step.ts';
import { type ByteString, printable } from '../../src/sys/bytes.ts';
import {
  attempt,
  EACCES,
  EINVAL,
  EIO,
  ELOOP,
  ENAMETOOLONG,
  ENOENT,
  ENOTDIR,
  EPERM,
  ErrnoError,
  EXDEV,
  errnoName,
} from '../../src/sys/errno.ts';
import { isDirectory, isRegular, isSymlink } from '../../src/sys/stat.ts';
import { demand } from './target.ts';

/** The errnos that `lookup` and `find` document; all others are thrown. */
const LOOKUP_ERRNOS = [ENOENT, ENAMETOOLONG, EPERM, EINVAL, EACCES, EIO];
/**
 * The longest xattr name that can be read, as names are stored with an extra `overlay.` in 255 bytes. The kernel also lists
 * longer names, and returns EOPNOTSUPP for them.
 */
const ASKED_BYTES_MAX = 255 - 'overlay.'.length;
const FIND_ERRNOS = [ENOENT, ENOTDIR, ELOOP, EXDEV, ENAMETOOLONG];
/** Names that are looked up in every directory, listed or not. */
const UNLISTED = ['missing', '\xff'.repeat(255), 'n'.repeat(256)];
/**
 * Files with sizes between these are not opened, because their whole data would be digested. Larger files must not be digested.
 */
const UNOPENED_BYTES = [2 ** 22, 2 ** 33] as const;

/** One walk in this many makes an overlay of its own, whose caches take longer to make than all other steps. */
const COSTLY = 4;

export interface Walk {
  /** The most objects to examine. */
  readonly objectsMax: number;
  /** Selects the additional queries. */
  readonly lot: number;
  /** Whether directories record the right types. */
  readonly isSound: boolean;
}

/** Examines the objects of a stack. Throws a Violation, or any error that the code must not throw. */
export function walkOverlay(overlay: Overlay, { objectsMax, lot, isSound }: Walk): void {
  const seen = new Map<number, Node>([[overlay.root.ino, overlay.root]]);
  const paths = new Map<number, ByteString>([[overlay.root.ino, '']]);
  for (const [ino, node] of seen) {
    const path = paths.get(ino) as ByteString;
    checkNode(overlay, node);
    if (!isDirectory(node.top.mode)) continue;
    for (const name of namesOf(overlay, node, isSound)) {
      const child = checkName(overlay, node, name);
      if (!child || seen.has(child.ino) || seen.size >= objectsMax) continue;
      seen.set(child.ino, child);
      paths.set(child.ino, `${path}/${name}`);
    }
  }
  for (const found of inventory(overlay)) demand('error' in found || isRegular(found.node.top.mode), 'inventory');
  if (lot % COSTLY === 0) {
    const explainer = new Explainer(overlay);
    for (const path of [...paths.values()].slice(0, 30)) explainer.explain(path);
  }
  if (lot % COSTLY === 1) for (const { detail } of hazards(overlay)) demand(detail !== '', 'a hazard without a word');
}

function checkNode(overlay: Overlay, node: Node): void {
  const attr = attempt(() => overlay.attr(node));
  if (!(attr instanceof ErrnoError)) {
    const numbers = Object.values(attr).filter(value => value !== undefined); // birth time may be absent
    const isNumber = (value: unknown): boolean => typeof value === 'bigint' || Number.isFinite(value);
    demand(numbers.every(isNumber), `an attribute that is no number: ${Object.entries(attr).join(' ')}`);
    demand(attr.ino === node.ino && attr.mode === node.top.mode, 'the attributes are of another object');
  }
  const names = attempt(() => overlay.listxattr(node));
  for (const name of names instanceof ErrnoError ? [] : names) {
    const value = attempt(() => overlay.getxattr(node, name));
    const canBeAsked = name.length <= ASKED_BYTES_MAX && !/^(user|trusted|security)\.$/.test(name); // the kernel's rules
    demand(
      typeof value !== 'number' || !canBeAsked,
      `${errnoName(value as number)}, but listed: xattr ${printable(name)}`,
    );
  }
  if (isSymlink(node.top.mode)) attempt(() => overlay.readlink(node));
  if (isRegular(node.top.mode)) checkData(overlay, node);
}

function checkData(overlay: Overlay, node: Node): void {
  const found = attempt(() => overlay.find(node));
  if (found instanceof ErrnoError) return;
  if (typeof found === 'number') {
    demand(FIND_ERRNOS.includes(-found), `find gives ${errnoName(found)}`);
    return;
  }
  const { sizeBytes } = found;
  found.close();
  if (sizeBytes > UNOPENED_BYTES[0] && sizeBytes < UNOPENED_BYTES[1]) return;
  const data = attempt(() => overlay.open(node));
  if (data instanceof ErrnoError || typeof data === 'number') return;
  const out = new Uint8Array(100);
  attempt(() => data.read(out, 0, out.length, 0));
  data.close();
}

function namesOf(overlay: Overlay, directory: Node, isSound: boolean): ByteString[] {
  const listed = attempt(() => overlay.list(directory));
  if (listed instanceof ErrnoError) return UNLISTED;
  const names = listed.map(({ name }) => name);
  for (const name of names) demand(/^[^/\0]{1,255}$/s.test(name), `the name ${printable(name)} is listed`);
  if (isSound) checkWhiteouts(overlay, directory, names);
  if (directory.stack.length > 1) demand(new Set(names).size === names.length, 'a merged listing has a name twice');
  return [...names.slice(0, 150), ...UNLISTED];
}

/** Looks a name up twice, with and without caches; the results must be equal. */
function checkName(overlay: Overlay, directory: Node, name: ByteString): Node | undefined {
  const found = attempt(() => overlay.lookup(directory, name));
  overlay.trace = new Recorder(); // makes the layers be asked again
  const again = attempt(() => overlay.lookup(directory, name));
  overlay.trace = undefined;
  demand(summary(found) === summary(again), `${printable(name)}: ${summary(found)}, and then ${summary(again)}`);
  if (found instanceof ErrnoError) return undefined;
  if (typeof found !== 'number') return found;
  demand(LOOKUP_ERRNOS.includes(-found), `lookup gives ${errnoName(found)}`);
  if (found === -ENOENT) demand(isHidden(overlay, directory, name), `${printable(name)} is there, and not found`);
  return undefined;
}

function summary(found: Node | number | ErrnoError): string {
  if (typeof found === 'number') return errnoName(found);
  if (found instanceof ErrnoError) return found.message;
  const { ino, stack, data } = found;
  return `${ino} of ${stack.map(each => each.ino)} with ${typeof data === 'object' ? data.ino : data}`;
}

/** Checks that a merged listing leaves out whiteouts, except regular files, which are whiteouts only in lookups. */
function checkWhiteouts({ rules, root }: Overlay, directory: Node, names: readonly ByteString[]): void {
  if (directory.stack.length === 1 && directory !== root) return;
  for (const name of names) {
    const found = attempt(() => firstOf(directory, name));
    if (found === undefined || found instanceof ErrnoError || isRegular(found.mode)) continue;
    demand(!isWhiteout(rules.xattrs, found), `the whiteout ${printable(name)} is listed`);
  }
}

/** The inode under a name in the topmost layer that has it. */
function firstOf({ stack }: Node, name: ByteString): Inode | undefined {
  for (const directory of stack) {
    const found = directory.layer.lookup(directory, name);
    if (found) return found;
  }
  return undefined;
}

/** Whether a name is rightly missing: no layer of the directory has it, or the topmost layer with it has a whiteout. */
function isHidden({ rules }: Overlay, directory: Node, name: ByteString): boolean {
  const found = attempt(() => firstOf(directory, name));
  return found === undefined || found instanceof ErrnoError || isWhiteout(rules.xattrs, found);
}
