/**
 * The rule for one dentry: how lookup judges the object that a layer has under one component of a name, and whether it goes on
 * below.
 */
import type { Inode, Layer } from '../layers/layer.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EACCES, EINVAL, EIO, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { hasDigest, isMetacopy } from './metacopy.ts';
import { parseOrigin } from './origin.ts';
import { isAbsolute, isDataRedirect, parseRedirect } from './redirect.ts';
import type { Trace } from './trace.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** The options that decide what a lookup may do. */
export interface Rules {
  readonly xattrs: OverlayXattrs;
  /** Whether a metacopy file may take its data from a normal layer below: the option metacopy=on. */
  readonly metacopy: boolean;
  /** Whether redirects are followed: the option redirect_dir. */
  readonly follow: boolean;
  readonly hasDataLayers: boolean;
  /** Whether `//` is understood; the kernel (Linux 6.18) refuses it. */
  readonly dataRedirects: boolean;
  /** Whether the absolute redirect of a metacopy file skips the normal layers, as if it began with `//`. */
  readonly dataOnly: boolean;
  /** Whether data that is not found by path is searched for by the origin of the metacopy file, if the file has a digest. */
  readonly followOrigin: boolean;
}

/** The state of a lookup. Source: kernel fs/overlayfs/namei.c, struct ovl_lookup_data. */
export interface Search {
  /**
   * The name to look up in the next layer: the requested name, or the one that redirects made of it. If it begins with a
   * slash, it starts from the layer's root.
   */
  name: ByteString;
  /** Whether a directory was found: only directories merge with it. */
  isDir: boolean;
  /** Whether no layer below takes part. */
  stop: boolean;
  /** Whether this layer is the lowest that takes part, so that neither opaque nor redirect matters. */
  last: boolean;
  /** Whether the last redirect was absolute and no directory or metacopy file has been passed since. */
  absolute: boolean;
  /** The last redirect, with the rest of the name after it: then `name` is the same. */
  redirect: ByteString | undefined;
  /** Whether the object found last is a metacopy file: the search goes on for its data. */
  metacopy: boolean;
  /** Number of metacopy files in layers below the upper one; a chain of them never follows an origin. */
  metacopies: number;
  /** The last of them. */
  copied: Inode | undefined;
  /** The first object below the upper layer that took part. */
  lower: Inode | undefined;
  /** The layers where the looked-up directory itself has opaque=x: it holds xattr whiteouts. */
  xwhiteouts: Layer[];
  /** Receives the rules that decide, while tracing is on. */
  readonly trace: Trace | undefined;
}

/**
 * The verdict on an object that is part of what the name leads to, or a directory on the way there.
 * @example
 * const hidesPoem: Judge = (...given) => (given[1].name === 'poem' ? MISSING : TAKES_PART);
 * const overlay = openStack('tree', {}, hidesPoem);
 * assert.equal(errnoName(overlay.lookup(overlay.root, 'poem') as number), 'ENOENT');
 * assert.equal(typeof overlay.lookup(overlay.root, 'link'), 'object');
 * overlay.close();
 */
export const TAKES_PART = 'takes part';
/**
 * The verdict on an object that counts as if its layer had nothing under the name: a whiteout, or one that ends a merge.
 * @example
 * const overlay = openStack('tree', {}, () => MISSING);
 * assert.throws(() => findPath(overlay, '/poem'), { name: 'ENOENT' });
 * overlay.close();
 */
export const MISSING = 'missing';
/** What a rule answers for one object. A negative errno ends the lookup, which returns it. */
export type Verdict = typeof TAKES_PART | typeof MISSING | number;

/**
 * A rule for one dentry that replaces `step`, with its parameters and results. It may call `step` and change what `step` recorded
 * in `search`.
 */
export type Judge = (rules: Rules, search: Search, found: Inode, prefixBytes: number, rest: ByteString) => Verdict;

/** The state of a lookup before the first layer. */
export function newSearch(name: ByteString, trace?: Trace): Search {
  const xwhiteouts: Layer[] = []; // V8 makes a literal inside another one several times as slowly
  return {
    name,
    isDir: false,
    stop: false,
    last: false,
    absolute: false,
    redirect: undefined,
    metacopy: false,
    metacopies: 0,
    copied: undefined,
    lower: undefined,
    xwhiteouts,
    trace,
  };
}

/**
 * Judges the object that a layer has under a component of the name, and records the consequences in `search`.
 * @param prefixBytes length of the part of `search.name` before the component
 * @param rest the part after the component, with its slash; '' for the last component
 * @returns TAKES_PART, MISSING, or -EIO, -EINVAL for a broken xattr
 * Source: kernel fs/overlayfs/namei.c, ovl_lookup_single.
 * @example
 * const verdicts: Verdict[] = [];
 * const overlay = openStack('tree:empty', {}, (...given) => verdicts[verdicts.push(step(...given)) - 1] ?? MISSING);
 * findPath(overlay, '/poem');
 * assert.deepEqual(verdicts, [TAKES_PART]);
 * overlay.close();
 */
export function step(rules: Rules, search: Search, found: Inode, prefixBytes: number, rest: ByteString): Verdict {
  const isLastComponent = rest === '';
  const { trace } = search;
  if (isWhiteout(rules.xattrs, found)) {
    trace?.rule(isRegular(found.mode) ? 'W3' : 'W1');
    return end(search);
  }
  if (isLastComponent && search.metacopy && !isRegular(found.mode)) {
    trace?.rule('L4', 'not a regular file: it holds no data and ends the search');
    return end(search);
  }
  if (isDirectory(found.mode)) {
    if (isLastComponent) search.isDir = true;
    if (isLast(search)) return TAKES_PART;
    if (isOpaque(rules, search, found, isLastComponent)) return TAKES_PART;
  } else {
    if (search.isDir || !isLastComponent) {
      trace?.rule('L4', 'not a directory: it ends the search');
      return end(search);
    }
    const metacopy = hasMetacopy(rules.xattrs, found);
    if (typeof metacopy === 'number') trace?.rule('M2');
    if (typeof metacopy === 'number') return metacopy;
    search.metacopy = metacopy;
    search.stop = !metacopy;
    if (!metacopy) return TAKES_PART;
    if (!found.layer.isUpper) search.metacopies++;
    if (!found.layer.isUpper) search.copied = found;
    trace?.rule('M1');
    if (isLast(search)) return TAKES_PART;
  }
  return stepRedirect(rules, search, found, prefixBytes, rest);
}

function isLast({ last, trace }: Search): boolean {
  if (last) trace?.rule('L6');
  return last;
}

/** Records the meaning of the xattr opaque. @returns whether the search ends with this directory */
function isOpaque(rules: Rules, search: Search, found: Inode, isLastComponent: boolean): boolean {
  const opaque = opaqueness(rules.xattrs, found);
  if (opaque === 'x' && isLastComponent) {
    search.trace?.rule('W5');
    search.xwhiteouts.push(found.layer);
  }
  if (opaque !== 'y') return false;
  search.trace?.rule('O2');
  search.stop = true;
  return true;
}

/** Ends the search above the object, which does not take part. */
function end(search: Search): typeof MISSING {
  search.stop = true;
  return MISSING;
}

/** If `found` has a redirect, rewrites the name for the layers below. Source: ovl_check_redirect. */
function stepRedirect(
  rules: Rules,
  search: Search,
  found: Inode,
  prefixBytes: number,
  rest: ByteString,
): typeof TAKES_PART | number {
  const { trace } = search;
  if (search.absolute) trace?.rule('R7');
  search.absolute = false; // also if there is no redirect: any directory or metacopy file on the way cancels an earlier one
  const value = found.layer.getxattr(found, rules.xattrs.redirect);
  if (value === undefined) return TAKES_PART;
  if (value.length === 0 && !isDirectory(found.mode) && mayBeDisconnected(rules, search, found)) {
    trace?.rule('P-O2');
    return deferToDataLayers(search, '');
  }
  const redirect = parseRedirect(value);
  if (redirect === undefined) {
    trace?.rule('R3', printable(byteStringOf(value)));
    return -EINVAL;
  }
  if (isDataRedirect(redirect)) {
    const refused = !rules.dataRedirects ? 'P-D1' : isDirectory(found.mode) ? 'P-D5' : undefined;
    trace?.rule(refused ?? 'P-D2', printable(redirect));
    return refused ? -EINVAL : deferToDataLayers(search, redirect.slice(1));
  }
  if (!isAbsolute(redirect)) {
    search.name = search.name.slice(0, prefixBytes) + redirect + rest;
    trace?.rule('R2', `${printable(redirect)}: the layers below are searched for ${printable(search.name)}`);
  } else if (rules.dataOnly && !isDirectory(found.mode) && !found.layer.isUpper) {
    trace?.rule('P-D2', `redirects=data-only: ${printable(redirect)} is treated as if it began with //`);
    return deferToDataLayers(search, redirect);
  } else {
    search.absolute = true;
    search.stop = false; // even if an opaque directory was on the way here
    search.name = redirect + rest;
    trace?.rule('R2', `${printable(redirect)}: the layers below are searched for ${printable(search.name)}`);
  }
  search.redirect = search.name;
  return TAKES_PART;
}

/** Whether an empty redirect means that the data has no path, only an origin. */
function mayBeDisconnected(rules: Rules, search: Search, found: Inode): boolean {
  return rules.followOrigin && search.metacopies === 1 && hasDigest(found.layer.getxattr(found, rules.xattrs.metacopy));
}

/** Whether a metacopy file's data can be found by its origin: it has a usable origin, and a digest to check the data against. */
export function hasOrigin(xattrs: OverlayXattrs, inode: Inode): boolean {
  if (!hasDigest(inode.layer.getxattr(inode, xattrs.metacopy))) return false;
  const value = inode.layer.getxattr(inode, xattrs.origin);
  return value !== undefined && parseOrigin(value) !== undefined;
}

/** Ends the search in normal layers: the data is at `path` in a data-only layer, or is found by its origin, or does not exist. */
function deferToDataLayers(search: Search, path: ByteString): typeof TAKES_PART {
  search.absolute = true;
  search.stop = true;
  search.name = path;
  search.redirect = path;
  return TAKES_PART;
}

/**
 * Whether the inode is a whiteout: a character device 0:0, or an empty regular file with the xattr `overlay.whiteout`.
 * @example
 * const { root } = openLayer('tree');
 * const device = { ...root, mode: 0o20000, rdev: makeRdev(0, 0) };
 * assert.ok(isWhiteout(new OverlayXattrs(false), device));
 * assert.ok(!isWhiteout(new OverlayXattrs(false), { ...device, rdev: makeRdev(1, 3) }));
 */
export function isWhiteout(xattrs: OverlayXattrs, inode: Inode): boolean {
  if ((inode.mode & S_IFMT) === S_IFCHR) return inode.rdev === 0;
  return isRegular(inode.mode) && inode.sizeBytes === 0 && xattrBytes(xattrs, inode, xattrs.whiteout) >= 0;
}

/**
 * The value of the xattr opaque: 'y' ends a merge, 'x' means that regular files in the directory may be whiteouts; undefined for
 * any other value or none.
 * @example
 * const marked = new ErofsLayer('image', readImageFile('image.cfs')); // an image's root hides the layers below
 * assert.equal(opaqueness(new OverlayXattrs(false), marked.root), 'y');
 * assert.equal(opaqueness(new OverlayXattrs(false), openLayer('tree').root), undefined);
 */
export function opaqueness(xattrs: OverlayXattrs, directory: Inode): 'y' | 'x' | undefined {
  const value = directory.layer.getxattr(directory, xattrs.opaque);
  if (value?.length !== 1) return undefined;
  return value[0] === 0x79 ? 'y' : value[0] === 0x78 ? 'x' : undefined;
}

/** Whether an inode is a metacopy file; -EIO for an xattr of an invalid size. */
export function hasMetacopy(xattrs: OverlayXattrs, inode: Inode): boolean | number {
  if (!isRegular(inode.mode)) return false;
  const bytes = xattrBytes(xattrs, inode, xattrs.metacopy);
  if (bytes < 0) return false;
  return isMetacopy(bytes) ? true : -EIO;
}

/**
 * The size of an xattr of a regular file, -1 if it has none. A user xattr that may not be read counts as missing.
 * Source: ovl_check_metacopy_xattr.
 */
function xattrBytes(xattrs: OverlayXattrs, inode: Inode, name: ByteString): number {
  try {
    return inode.layer.xattrBytes(inode, name);
  } catch (error) {
    if (xattrs.userxattr && error instanceof ErrnoError && error.errno === EACCES) return -1;
    throw error;
  }
}
