/**
 * Converts where an image's files look for their data.
 *
 * ```
 * absolute    redirect=/ab/cd…    a path in every layer below
 * data-only   redirect=//ab/cd…   a path in data-only layers and nowhere else
 * origin      redirect= (empty)   origin=HANDLE: an inode, under whatever name it is in its filesystem
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
export type Target = (typeof TARGETS)[number];

/** A regular file whose data is elsewhere. */
export interface ExternalFile {
  /** The first of its places on a walk depth first, names in byte order. */
  readonly place: Place;
  readonly sizeBytes: number;
  /** The value of the xattr up to the first NUL, which ends it; undefined: there is none. */
  readonly redirect: ByteString | undefined;
  /** In hex: 64 digits of SHA-256, 128 of SHA-512. */
  readonly digest: string | undefined;
  /** What is changed. */
  readonly inode: StagedInode;
}

/** Why a file can not be converted. `code` is ENOVERITY, EWRONGSIZE, EWRONGVERITY, or an errno's name. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  /** Where its object is, or should be, if that is known. */
  readonly object?: string;
}

export interface Relinked {
  changed: number;
  readonly refused: (readonly [ExternalFile, Refusal])[];
}

/** The files of an image whose data is elsewhere, each inode once. @param root the first inode that `readStaged` gives */
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

/** The digest of a metacopy value that is well-formed, whatever its flags. */
function digestOf(metacopy: ByteString): string | undefined {
  const digest = digestInMetacopy(metacopy);
  const wellFormed = metacopyOf(digest).replace(FLAGS, '$1');
  return wellFormed === metacopy.replace(FLAGS, '$1') ? digest : undefined;
}
/** The third byte of struct ovl_metacopy. */
const FLAGS = /^(..)./s;

/**
 * Converts files in place; where any is refused, what was done to the others is of no use.
 * @param originOf for `origin`: the value of overlay.origin that leads to a file's object, which has the right digest
 */
export function relink(
  files: Iterable<ExternalFile>,
  target: Target,
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

/** @returns whether that changed anything */
function toOrigin(file: ExternalFile, originOf: (file: ExternalFile) => ByteString | Refusal): boolean | Refusal {
  if (file.digest === undefined) return WITHOUT_DIGEST;
  const origin = originOf(file);
  if (typeof origin === 'object') return origin;
  const { inode } = file;
  if (inode.xattrs.get(REDIRECT) === '' && inode.xattrs.get(ORIGIN) === origin) return false;
  inode.xattrs.set(REDIRECT, '').set(ORIGIN, origin);
  inode.xattrs = new Map([...inode.xattrs].sort(([a], [b]) => (a < b ? -1 : 1))); // the writer keeps their order
  return true;
}

/**
 * Changes the start of an absolute redirect; whether the rest is valid is not looked at, and stays as it is. An origin beside a
 * redirect is left alone: it is where to look if the path is gone.
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
  message: 'the file has no digest, which is to tell its object',
};
