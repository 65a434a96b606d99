/**
 * Converts the way in which an image's files find their data.
 *
 * ```
 * absolute    redirect=/ab/cd…    a path in every layer below
 * data-only   redirect=//ab/cd…   a path in data-only layers and nowhere else
 * origin      redirect= (empty)   origin=HANDLE: an inode, under any name in its filesystem
 * ```
 * Source: kernel Documentation/filesystems/overlayfs.rst, "Data-only lower layers"; `//` and the empty redirect: linux-unionfs,
 * 25 and 26 May 2023.
 */

import { objectPath } from '../store/objects.ts';
import type { ByteString } from '../sys/bytes.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';
import { digestInMetacopy, METACOPY, metacopyOf, ORIGIN, REDIRECT, type StagedInode } from './stage.ts';
import type { Place } from './tree.ts';

export const TARGETS = ['origin', 'data-only', 'absolute'] as const;
export type RelinkTarget = (typeof TARGETS)[number];

/** A regular file whose data is outside the image. */
export interface ExternalFile {
  /** The first of its places in a depth-first walk with names in byte order. */
  readonly place: Place;
  readonly sizeBytes: number;
  /** The value of the redirect xattr up to its first NUL; undefined without the xattr. */
  readonly redirect: ByteString | undefined;
  /** In hex: 64 digits of SHA-256, or 128 of SHA-512; undefined without a valid metacopy value. */
  readonly digest: string | undefined;
  /** The inode whose xattrs are changed. */
  readonly inode: StagedInode;
}

/** The reason why a file cannot be converted. `code` is ENOVERITY, EWRONGSIZE, EWRONGVERITY, or an errno's name. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  /** The actual or expected path of the object, if known. */
  readonly object?: string;
}

export interface Relinked {
  changed: number;
  readonly refused: (readonly [ExternalFile, Refusal])[];
}

/** The files whose data is outside the image, each inode once. @param root the first inode that `readStaged` returns */
export function* externalFiles(root: StagedInode): Generator<ExternalFile> {
  const seen = new Set<StagedInode>();
  const pending: [Place, StagedInode][] = [[undefined, root]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [place, inode] = next;
    if (isRegular(inode.mode) && inode.xattrs.has(METACOPY) && !seen.has(inode)) yield externalFile(place, inode);
    seen.add(inode);
    if (!isDirectory(inode.mode)) continue;
    for (let i = inode.children.length - 1; i >= 0; i--) {
      const { name, inode: child } = inode.children[i] as StagedInode['children'][0];
      if (name !== '.' && name !== '..') pending.push([{ above: place, name }, child]);
    }
  }
}

function externalFile(place: Place, inode: StagedInode): ExternalFile {
  const value = inode.xattrs.get(REDIRECT);
  const end = value?.indexOf('\0') ?? -1;
  const redirect = end < 0 ? value : value?.slice(0, end);
  return { place, sizeBytes: inode.sizeBytes, redirect, digest: digestOf(inode.xattrs.get(METACOPY) ?? ''), inode };
}

/** The digest of a well-formed metacopy value, with any flags; undefined for other values. */
function digestOf(metacopy: ByteString): string | undefined {
  const digest = digestInMetacopy(metacopy);
  const wellFormed = metacopyOf(digest).replace(FLAGS, '$1');
  return wellFormed === metacopy.replace(FLAGS, '$1') ? digest : undefined;
}
/** Matches struct ovl_metacopy up to its third byte, the flags. */
const FLAGS = /^(..)./s;

/**
 * Converts files in place. If any file is refused, the changes to the others must be discarded.
 * @param originOf for target `origin`: the value of overlay.origin that leads to a file's object, whose digest was verified; or a
 * refusal
 */
export function relink(
  files: Iterable<ExternalFile>,
  target: RelinkTarget,
  originOf: (file: ExternalFile) => ByteString | Refusal,
): Relinked {
  const result: Relinked = { changed: 0, refused: [] };
  for (const file of files) {
    const outcome = target === 'origin' ? toOrigin(file, originOf) : toPath(file, target);
    if (typeof outcome === 'object') result.refused.push([file, outcome]);
    else if (outcome) result.changed++;
  }
  return result;
}

/** @returns whether anything changed, or why the file is refused */
function toOrigin(file: ExternalFile, originOf: (file: ExternalFile) => ByteString | Refusal): boolean | Refusal {
  if (file.digest === undefined) return WITHOUT_DIGEST;
  const origin = originOf(file);
  if (typeof origin === 'object') return origin;
  const { inode } = file;
  if (inode.xattrs.get(REDIRECT) === '' && inode.xattrs.get(ORIGIN) === origin) return false;
  inode.xattrs.set(REDIRECT, '').set(ORIGIN, origin);
  inode.xattrs = new Map([...inode.xattrs].sort(([a], [b]) => (a < b ? -1 : 1))); // the writer keeps the order
  return true;
}

/**
 * Changes the slashes at the start of an absolute redirect; the rest stays as it is, even if it is invalid. An origin beside such
 * a redirect is kept, because lookup falls back to it if the path is gone.
 */
function toPath({ digest, inode }: ExternalFile, target: 'data-only' | 'absolute'): boolean | Refusal {
  const old = inode.xattrs.get(REDIRECT);
  if (old === undefined) return false;
  if (old === '') {
    if (digest === undefined) return WITHOUT_DIGEST;
    inode.xattrs.set(REDIRECT, (target === 'absolute' ? '/' : '//') + objectPath(digest));
    inode.xattrs.delete(ORIGIN);
    return true;
  }
  const redirect = target === 'absolute' ? old.replace(/^\/\/(?=[^/])/, '/') : old.replace(/^\/(?=[^/])/, '//');
  inode.xattrs.set(REDIRECT, redirect);
  return redirect !== old;
}

const WITHOUT_DIGEST: Refusal = {
  code: 'ENOVERITY',
  message: 'the file has no digest to identify its object',
};
