/**
 * Looks up a name in a stack of layers, by the rules of step.ts. Source: kernel fs/overlayfs/namei.c, ovl_lookup and
 * ovl_lookup_layer.
 */
import type { Inode, Layer } from '../layers/layer.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EACCES, EIO, ENAMETOOLONG, ENOENT, EPERM } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import type { Node } from './node.ts';
import { isAbsolute } from './redirect.ts';
import { hasOrigin, type Judge, newSearch, type Rules, type Search, TAKES_PART } from './step.ts';
import type { Trace } from './trace.ts';

export const NAME_MAX = 255;

/** The result of a lookup: a node without its inode number. */
export interface Found extends Pick<Node, 'stack' | 'data' | 'origin' | 'xwhiteouts'> {
  /** The first object below the upper layer that took part. */
  readonly lower?: Inode | undefined;
}

/** The stack of layers that a lookup walks. */
export interface Stack {
  readonly rules: Rules;
  /** The rule for one dentry: `step`, unless the caller tries another rule. */
  readonly judge: Judge;
  /** The roots of the normal layers, top first. */
  readonly roots: readonly Inode[];
  /** The position of a normal layer in `roots`. */
  indexOf(layer: Layer): number;
  /** Called for each directory with opaque=x: from then on, its layer counts as one that holds xattr whiteouts. */
  sawXwhiteouts(layer: Layer): void;
  /** Receives every step of a lookup; absent while tracing is off. */
  readonly trace?: Trace | undefined;
}

/**
 * Looks up a name in a directory of the overlay.
 * @returns the result, or a negative errno: -ENOENT for a miss; -ENAMETOOLONG; -EPERM for a redirect or metacopy that the options
 *   do not follow; -EINVAL for an invalid redirect; -EACCES for one to '.' or '..'; -EIO for a metacopy file without data
 * Throws ErrnoError if a layer is corrupt or cannot be read.
 */
export function lookup(stack: Stack, parent: readonly Inode[], name: ByteString): Found | number {
  if (name.length > NAME_MAX) {
    stack.trace?.rule('L3');
    return -ENAMETOOLONG;
  }
  const search = newSearch(name, stack.trace);
  const result: Inode[] = [];
  const failure = searchLayers(stack, search, parent, result);
  for (const layer of search.xwhiteouts) stack.sawXwhiteouts(layer);
  if (failure !== 0) return failure;
  return conclude(stack.rules, search, result);
}

/**
 * The result of a lookup in a stack of one layer that has `inode` under the name. The name and the directory do not matter,
 * because no other layer is searched.
 * @returns as `lookup`
 */
export function lookupInode({ rules, judge }: Stack, inode: Inode): Found | number {
  const search = newSearch('');
  search.last = !rules.hasDataLayers;
  const verdict = judge(rules, search, inode, 0, '');
  if (typeof verdict === 'number') return verdict;
  return conclude(rules, search, verdict === TAKES_PART ? [inode] : []);
}

function searchLayers(stack: Stack, search: Search, parent: readonly Inode[], result: Inode[]): number {
  const { rules, roots } = stack;
  const checkRedirects = rules.follow || rules.hasDataLayers;
  let bases = parent;
  for (let i = 0; i < bases.length && !search.stop; i++) {
    const base = bases[i] as Inode;
    if (!mayFollow(rules, search)) return refuse(search);
    if (!checkRedirects) search.last = i === bases.length - 1;
    else if (search.isDir || !rules.hasDataLayers) search.last = base.layer === roots[roots.length - 1]?.layer;

    search.trace?.layer(base.layer.path, search.name);
    const found = walkLayer(stack, search, base);
    if (typeof found === 'number') return found;
    if (found === undefined) continue;
    if (!found.layer.isUpper) search.lower ??= found;
    if (!(search.metacopy && result.length > 0)) result.push(found);
    if (search.redirect !== undefined && isAbsolute(search.redirect) && bases !== roots) {
      if (!search.stop) search.trace?.rule('R6');
      bases = roots;
      i = stack.indexOf(base.layer);
    }
  }
  return 0;
}

const mayFollow = (rules: Rules, search: Search): boolean =>
  (!search.metacopy || rules.metacopy) && (search.redirect === undefined || rules.follow);

/** Refuses to follow a metacopy or a redirect that the options forbid. */
function refuse({ trace, metacopy }: Search): number {
  trace?.rule('L5', metacopy ? 'metacopy=off' : 'redirects are not followed');
  return -EPERM;
}

function conclude(rules: Rules, search: Search, result: Inode[]): Found | number {
  const top = result[0];
  const copied = top?.layer.isUpper ? search.copied : top;
  const origin = rules.followOrigin && search.metacopies === 1 ? copied : undefined;
  if (search.metacopy && top && rules.hasDataLayers && search.absolute) {
    if (search.redirect) {
      search.trace?.rule('L7', printable(search.redirect));
      return file(search, top, search.redirect, origin);
    }
  } else if (!mayFollow(rules, search)) {
    return refuse(search);
  }
  if (search.metacopy) {
    const deferred = top && origin && hasOrigin(rules.xattrs, origin);
    if (!deferred || search.redirect !== '') search.trace?.rule(deferred ? 'P-O3' : 'L8');
    return deferred ? file(search, top, '', origin) : -EIO;
  }
  if (!top) return -ENOENT;
  if (!search.isDir) return file(search, top, result[1], undefined);
  return { stack: result, data: undefined, origin: undefined, xwhiteouts: search.xwhiteouts.length > 0 };
}

function file({ lower }: Search, top: Inode, data: Node['data'], origin: Inode | undefined): Found {
  const stack = [top];
  return { stack, data, origin, xwhiteouts: false, lower };
}

/**
 * Finds `search.name` in one layer: below `base`, or, for an absolute name, along that path from `base`, which is then the
 * layer's root. A redirect on the way rewrites the part of the name before the rest, so the walk counts the bytes that remain,
 * not those it has passed.
 * @returns the inode of the last component, undefined if the layer has none that takes part, or a negative errno
 */
function walkLayer(stack: Stack, search: Search, base: Inode): Inode | undefined | number {
  if (!isAbsolute(search.name)) return stepInto(stack, search, base, search.name, 0, '');
  let at: Inode = base;
  let remaining = search.name.length - 1;
  while (isDirectory(at.mode)) {
    const from = search.name.length - remaining;
    const slash = search.name.indexOf('/', from);
    const to = slash < 0 ? search.name.length : slash;
    const rest = search.name.slice(to);
    const found = stepInto(stack, search, at, search.name.slice(from, to), from, rest);
    if (rest === '' || found === undefined || typeof found === 'number') return found;
    at = found;
    remaining -= to - from + 1;
  }
  return undefined;
}

function stepInto(
  stack: Stack,
  search: Search,
  base: Inode,
  component: ByteString,
  prefixBytes: number,
  rest: ByteString,
): Inode | undefined | number {
  const { trace } = search;
  if (component === '' || component === '.' || component === '..') {
    trace?.rule('R4');
    return -EACCES;
  }
  if (component.length > NAME_MAX) {
    trace?.rule('L3');
    return undefined;
  }
  const found = base.layer.lookup(base, component);
  trace?.component(component, found);
  if (found === undefined) return undefined;
  const verdict = stack.judge(stack.rules, search, found, prefixBytes, rest);
  if (typeof verdict === 'number') return verdict;
  return verdict === TAKES_PART ? found : undefined;
}
