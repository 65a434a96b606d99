/** Prints a tree as composefs-dump(5); `dumpfile.ts` describes that format. */
import type { ByteString } from '../sys/bytes.ts';
import { mayHaveOrigin } from './dumpfile.ts';
import { escapeField, escapeOptional, escapeXattr } from './escape.ts';
import { ORIGIN } from './stage.ts';
import { type Place, pathOf, type TreeInode, walk, walkPlaces } from './tree.ts';
import type { ImageName } from './walk-image.ts';

/**
 * Prints a tree as `composefs-info dump` does: lines without newlines, each directory before its names, in byte order.
 * @example
 * const root = readTree(openImage(readFileSync('small.cfs')));
 * assert.equal([...walkTree(root)].length, [...printDump(root)].length); // a line for each name
 */
export function* printDump(root: TreeInode): Generator<ByteString> {
  const first = firstNames(root);
  for (const [path, { inode, link }] of walk(root))
    yield dumpLine({ path, inode, linkTo: link ? pathOf(first.get(inode)) : undefined });
}

/** The place of each inode that has hard links. */
function firstNames(root: TreeInode): Map<TreeInode, Place> {
  const linked = new Set<TreeInode>();
  for (const [, { inode, link }] of walkPlaces(root)) if (link) linked.add(inode);
  const first = new Map<TreeInode, Place>();
  if (linked.size > 0)
    for (const [place, { inode, link }] of walkPlaces(root)) if (!link && linked.has(inode)) first.set(inode, place);
  return first;
}

/** The line of one name. */
export function dumpLine({ path, inode, linkTo }: Pick<ImageName, 'path' | 'inode' | 'linkTo'>): ByteString {
  const { sizeBytes, mode, nlink, uid, gid, rdev, mtime, mtimensec, payload, content, digest, xattrs, origin } = inode;
  let line = `${escapeField(path || '/')} ${sizeBytes} ${linkTo === undefined ? '' : '@'}${mode.toString(8)} ${nlink} ${uid} ${gid}`;
  line += ` ${rdev} ${mtime}.${mtimensec} ${escapeOptional(linkTo ?? payload)} ${escapeOptional(content)} ${digest ?? '-'}`;
  if (origin !== undefined && mayHaveOrigin(inode)) line += ` ${ORIGIN}=${escapeXattr(origin)}`;
  for (const [name, value] of xattrs) line += ` ${escapeXattr(name)}=${escapeXattr(value)}`;
  return line;
}
