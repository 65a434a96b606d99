/** Walks a stack as programs do, and checks what it says of itself. */

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

/** What `lookup` and `find` document; anything else is thrown. */
const LOOKUP_ERRNOS = [ENOENT, ENAMETOOLONG, EPERM, EINVAL, EACCES, EIO];
/** Names are stored with `overlay.` in them, in 255 bytes. The kernel lists longer ones, too, and gives EOPNOTSUPP for them. */
const ASKED_BYTES_MAX = 255 - 'overlay.'.length;
const FIND_ERRNOS = [ENOENT, ENOTDIR, ELOOP, EXDEV, ENAMETOOLONG];
/** Names that are asked for in every directory, listed or not. */
const UNLISTED = ['missing', '\xff'.repeat(255), 'n'.repeat(256)];
/** Data of a size between these is not opened: its digest is made of all of it. Past the last one, it must not be. */
const UNOPENED_BYTES = [2 ** 22, 2 ** 33] as const;

/** Has an overlay of its own, whose caches take longer to make than all the rest: some inputs meet it, others do not. */
const COSTLY = 4;

export interface Walk {
  /** Objects that are looked at, at most. */
  readonly objectsMax: number;
  /** Chooses what else the stack is asked. */
  readonly lot: number;
  /** Whether directories tell the right types. */
  readonly isSound: boolean;
}

/** Looks at the objects of a stack. Throws a Violation, or what the code must not throw. */
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
    const numbers = Object.values(attr).filter(value => value !== undefined); // there may be no birth time
    const isNumber = (value: unknown): boolean => typeof value === 'bigint' || Number.isFinite(value);
    demand(numbers.every(isNumber), `an attribute that is no number: ${Object.entries(attr).join(' ')}`);
    demand(attr.ino === node.ino && attr.mode === node.top.mode, 'the attributes are of another object');
  }
  const names = attempt(() => overlay.listxattr(node));
  for (const name of names instanceof ErrnoError ? [] : names) {
    const value = attempt(() => overlay.getxattr(node, name));
    const canBeAsked = name.length <= ASKED_BYTES_MAX && !/^(user|trusted|security)\.$/.test(name); // as the kernel says
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

/** Looks a name up, twice: from memory or not, it is the same. */
function checkName(overlay: Overlay, directory: Node, name: ByteString): Node | undefined {
  const found = attempt(() => overlay.lookup(directory, name));
  overlay.trace = new Recorder(); // which asks the layers again
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

/** A merged listing leaves whiteouts out, but for files that are some in lookups alone. */
function checkWhiteouts({ rules, root }: Overlay, directory: Node, names: readonly ByteString[]): void {
  if (directory.stack.length === 1 && directory !== root) return;
  for (const name of names) {
    const found = attempt(() => firstOf(directory, name));
    if (found === undefined || found instanceof ErrnoError || isRegular(found.mode)) continue;
    demand(!isWhiteout(rules.xattrs, found), `the whiteout ${printable(name)} is listed`);
  }
}

/** What the first layer that has a name has. */
function firstOf({ stack }: Node, name: ByteString): Inode | undefined {
  for (const directory of stack) {
    const found = directory.layer.lookup(directory, name);
    if (found) return found;
  }
  return undefined;
}

/** Whether a name is missing for a reason: no layer of the directory has it, or the first that does has a whiteout. */
function isHidden({ rules }: Overlay, directory: Node, name: ByteString): boolean {
  const found = attempt(() => firstOf(directory, name));
  return found === undefined || found instanceof ErrnoError || isWhiteout(rules.xattrs, found);
}
