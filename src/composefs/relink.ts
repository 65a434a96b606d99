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
import { digestInMetacopy, METACOPY, metacopyOf, ORIGIN, REDIRECT } from './stage.ts';
import type { Row, StagedInodes } from './staged.ts';
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
  readonly row: Row;
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

/** The files whose data is outside the image, each inode once. */
export function* externalFiles(inodes: StagedInodes): Generator<ExternalFile> {
  const seen = new Uint8Array(inodes.count);
  const pending: [Place, Row][] = [[undefined, 0]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [place, row] = next;
    const mode = inodes.mode[row] as number;
    const file = isRegular(mode) && !seen[row] ? externalFile(inodes, place, row) : undefined;
    if (file) yield file;
    seen[row] = 1;
    if (!isDirectory(mode)) continue;
    const [first, end] = inodes.namesOf(row);
    for (let i = end - 1; i >= first; i--) {
      const name = inodes.names[i] as ByteString;
      if (name !== '.' && name !== '..') pending.push([{ above: place, name }, inodes.nameRow[i] as Row]);
    }
  }
}

/** The file; undefined if its data is not outside the image. */
function externalFile(inodes: StagedInodes, place: Place, row: Row): ExternalFile | undefined {
  const xattrs = inodes.xattrsOf(row);
  const metacopy = xattrs.get(METACOPY);
  if (metacopy === undefined) return undefined;
  const value = xattrs.get(REDIRECT);
  const end = value?.indexOf('\0') ?? -1;
  const redirect = end < 0 ? value : value?.slice(0, end);
  return { place, sizeBytes: inodes.sizeBytes[row] as number, redirect, digest: digestOf(metacopy), row };
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
  inodes: StagedInodes,
  files: Iterable<ExternalFile>,
  target: RelinkTarget,
  originOf: (file: ExternalFile) => ByteString | Refusal,
): Relinked {
  const result: Relinked = { changed: 0, refused: [] };
  for (const file of files) {
    const xattrs = inodes.xattrsOf(file.row);
    const outcome = target === 'origin' ? toOrigin(file, xattrs, originOf) : toPath(file, xattrs, target);
    if (typeof outcome === 'object') result.refused.push([file, outcome]);
    else if (outcome) {
      inodes.setXattrs(file.row, xattrs);
      result.changed++;
    }
  }
  return result;
}

/** @returns whether an xattr changed, or why the file is refused */
function toOrigin(
  file: ExternalFile,
  xattrs: Map<ByteString, ByteString>,
  originOf: (file: ExternalFile) => ByteString | Refusal,
): boolean | Refusal {
  if (file.digest === undefined) return WITHOUT_DIGEST;
  const origin = originOf(file);
  if (typeof origin === 'object') return origin;
  if (xattrs.get(REDIRECT) === '' && xattrs.get(ORIGIN) === origin) return false;
  xattrs.set(REDIRECT, '').set(ORIGIN, origin);
  return true;
}

/**
 * Changes the slashes at the start of an absolute redirect; the rest stays as it is, even if it is invalid. An origin beside such
 * a redirect is kept, because lookup falls back to it if the path is gone.
 */
function toPath(
  { digest }: ExternalFile,
  xattrs: Map<ByteString, ByteString>,
  target: 'data-only' | 'absolute',
): boolean | Refusal {
  const old = xattrs.get(REDIRECT);
  if (old === undefined) return false;
  if (old === '') {
    if (digest === undefined) return WITHOUT_DIGEST;
    xattrs.set(REDIRECT, (target === 'absolute' ? '/' : '//') + objectPath(digest));
    xattrs.delete(ORIGIN);
    return true;
  }
  const redirect = target === 'absolute' ? old.replace(/^\/\/(?=[^/])/, '/') : old.replace(/^\/(?=[^/])/, '//');
  xattrs.set(REDIRECT, redirect);
  return redirect !== old;
}

const WITHOUT_DIGEST: Refusal = {
  code: 'ENOVERITY',
  message: 'the file has no digest to identify its object',
};
