/**
 * composefs-dump(5): a tree as text, one line per name.
 *
 * ```
 * /etc/fstab 259 100644 1 0 0 0 1695368732.385062094 35/d02f… - 35d02f… user.key=value
 * path       size mode  nlink uid gid rdev mtime     payload content digest xattrs
 * ```
 * The mode is octal; an `@` before it marks a further hard link, whose payload is the path of the first name. `-` is an unset
 * payload, content or digest. A line may end before these three, which leaves them empty.
 * A file whose data is reached by its origin alone has an empty payload, and the origin as the first xattr
 * `trusted.overlay.origin`. On other files that xattr belongs to the tree like any other.
 */
import { type ByteString, byteStringOf, printable, secondsOf } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFBLK, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { algorithmOfHex } from '../verity/algorithms.ts';
import { escapeField, escapeOptional, escapeXattr, unescapeField } from './escape.ts';
import { ORIGIN } from './stage.ts';
import {
  CONTENT_BYTES_MAX,
  FILE_BYTES_MAX,
  hasFileType,
  NAME_BYTES_MAX,
  newInode,
  type Place,
  pathOf,
  setPayload,
  setXattr,
  type TreeEntry,
  type TreeInode,
  walk,
  walkPlaces,
} from './tree.ts';

const FIELDS = [
  'path',
  'size',
  'mode',
  'nlink',
  'uid',
  'gid',
  'rdev',
  'mtime',
  'payload',
  'content',
  'digest',
] as const;
type DumpField = (typeof FIELDS)[number];
/** The last mandatory field of a line. Source: composefs tools/mkcomposefs.c, tree_from_dump_line. */
const LAST_NEEDED: DumpField = 'mtime';
/** The raw text of a line's fields; '' for fields that a short line lacks. */
type Line = Record<DumpField, ByteString> & { xattrs: ByteString; complete: boolean };

const U32_MAX = 0xffffffff;
const XATTR_TEXT_MAX = 65535;

/**
 * Parses a dump from lines without newlines. Throws ErrnoError EINVAL with line, field and reason.
 * @example
 * const root = parseDump(linesOf([readFileSync('small.dump')]));
 * assert.deepEqual(Buffer.from(writeImage(root)), readFileSync('small.cfs'));
 */
export function parseDump(lines: Iterable<ByteString>, strict = false): TreeInode {
  const reader = new DumpReader(strict);
  for (const line of lines) reader.add(line);
  return reader.finish();
}

/**
 * The longest line that is accepted. All fields but the path take at most 131,072 bytes with every byte escaped. That leaves a
 * path of 229,376 bytes if all are escaped, and more otherwise.
 */
export const LINE_BYTES_MAX = 1 << 20;

/**
 * Splits a stream of bytes into lines. The last line may lack its newline. Throws ErrnoError EINVAL with the line number for a
 * line longer than LINE_BYTES_MAX.
 * @param strict throws ErrnoError EINVAL if the last newline is missing
 * @example
 * const chunks = ['/ 4096', ' 40755\n/a', ' 1'].map(text => Buffer.from(text));
 * assert.deepEqual([...linesOf(chunks)], ['/ 4096 40755', '/a 1']);
 */
export function* linesOf(chunks: Iterable<Uint8Array>, strict = false): Generator<ByteString> {
  let rest = '';
  let lineNumber = 1;
  const add = (piece: ByteString): ByteString => {
    if (rest.length + piece.length > LINE_BYTES_MAX)
      throw new ErrnoError(EINVAL, `line ${lineNumber}: more than ${LINE_BYTES_MAX} bytes`);
    return rest + piece; // V8 concatenates the pieces once the line is complete
  };
  for (const chunk of chunks) {
    const text = byteStringOf(chunk);
    let from = 0;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', from)) {
      yield add(text.slice(from, end));
      rest = '';
      lineNumber++;
      from = end + 1;
    }
    rest = add(text.slice(from));
  }
  if (rest === '') return;
  if (strict) throw new ErrnoError(EINVAL, 'the last line has no newline');
  yield rest;
}

/** A hard link whose target is resolved at the end of the dump, when all names are known. */
interface PendingLink {
  lineNumber: number;
  target: ByteString;
}

/** Builds a tree from lines: call `add` for each, then `finish`. */
export class DumpReader {
  readonly #strict: boolean;
  #root: TreeInode | undefined;
  #lineNumber = 0;
  readonly #links = new Map<TreeEntry, PendingLink>();

  /**
   * @param strict refuses fields that have no effect: a device number without a device, a size or content that contradicts a
   * symlink
   */
  constructor(strict = false) {
    this.#strict = strict;
  }

  /** Adds the next line. Throws ErrnoError EINVAL with line, field and reason. */
  add(line: ByteString): void {
    this.#lineNumber++;
    at(this.#lineNumber, () => this.#addLine(splitLine(line)));
  }

  /** Resolves the hard links and returns the root. Throws ErrnoError EINVAL for an empty dump or a bad link. */
  finish(): TreeInode {
    if (this.#root === undefined) throw new ErrnoError(EINVAL, 'the dump is empty');
    for (const [entry, { lineNumber }] of this.#links)
      at(lineNumber, () => field('payload', () => this.#resolve(entry)));
    return this.#root;
  }

  #addLine(line: Line): void {
    const path = field('path', () => parseText(line.path));
    const link = line.mode.startsWith('@');
    const inode = newInode(field('mode', () => parseMode(link ? line.mode.slice(1) : line.mode)));
    if (link && isDirectory(inode.mode)) refuse('mode', 'a directory cannot be a hard link');
    if (!link) fillInode(inode, line, this.#strict);
    const entry = field('path', () => this.#place(path, inode, link));
    if (link)
      this.#links.set(entry, {
        lineNumber: this.#lineNumber,
        target: field('payload', () => parseTarget(line.payload)),
      });
  }

  /** Adds an inode to the tree under its path. */
  #place(path: ByteString, inode: TreeInode, link: boolean): TreeEntry {
    const entry = { inode, link };
    if (path === '/') {
      if (this.#root) throw new ErrnoError(EINVAL, 'a second root');
      if (!isDirectory(inode.mode)) throw new ErrnoError(EINVAL, 'the root is not a directory');
      this.#root = inode;
      return entry;
    }
    if (!this.#root) throw new ErrnoError(EINVAL, 'the root "/" must come first');
    const nameAt = path.lastIndexOf('/') + 1;
    const name = path.slice(nameAt);
    const parent = this.#find(path.slice(0, nameAt))?.inode;
    if (!parent) throw new ErrnoError(EINVAL, `no earlier line has the directory of ${printable(path)}`);
    if (!isDirectory(parent.mode)) throw new ErrnoError(EINVAL, `the parent of ${printable(path)} is not a directory`);
    checkName(name);
    if (parent.entries.has(name)) throw new ErrnoError(EINVAL, `${printable(path)} has a line already`);
    parent.entries.set(name, entry);
    return entry;
  }

  /** The entry at a path, or undefined; repeated slashes count as one. */
  #find(path: ByteString): TreeEntry | undefined {
    let entry: TreeEntry | undefined = { inode: this.#root as TreeInode, link: false };
    for (const name of path.split('/')) if (name !== '') entry = entry?.inode.entries.get(name);
    return entry;
  }

  /** Points a hard link, and every link on the way to its target, at the target's inode. */
  #resolve(entry: TreeEntry): void {
    const way = new Set<TreeEntry>();
    let at = entry;
    for (let link = this.#links.get(at); link; link = this.#links.get(at)) {
      if (way.has(at)) throw new ErrnoError(EINVAL, `${printable(link.target)} is a hard link to itself`);
      way.add(at);
      const target = this.#find(link.target);
      if (!target) throw new ErrnoError(EINVAL, `no line has ${printable(link.target)}, the target of the hard link`);
      at = target;
    }
    if (isDirectory(at.inode.mode)) throw new ErrnoError(EINVAL, 'a hard link to a directory');
    for (const link of way) {
      link.inode = at.inode;
      this.#links.delete(link);
    }
  }
}

/** Runs `read`, and prefixes ErrnoErrors with the line number. */
function at(lineNumber: number, read: () => void): void {
  try {
    read();
  } catch (error) {
    if (error instanceof ErrnoError) throw new ErrnoError(EINVAL, `line ${lineNumber}: ${error.message}`);
    throw error;
  }
}

/** Returns the result of `read`, and prefixes ErrnoErrors with the name of the field. */
function field<T>(name: DumpField | 'xattr', read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ErrnoError) refuse(name, error.message);
    throw error;
  }
}

function refuse(name: DumpField | 'xattr', reason: string): never {
  throw new ErrnoError(EINVAL, `${name}: ${reason}`);
}

function splitLine(text: ByteString): Line {
  if (text === '') throw new ErrnoError(EINVAL, 'an empty line');
  const nul = text.indexOf('\0');
  if (nul >= 0) throw new ErrnoError(EINVAL, `a NUL byte at column ${nul}`);
  const line = {} as Line;
  let from = 0;
  for (const name of FIELDS) {
    if (name === LAST_NEEDED) line.complete = from <= text.length;
    const space = text.indexOf(' ', from);
    const to = space < 0 ? text.length : space;
    line[name] = text.slice(from, to);
    from = to + 1;
  }
  line.xattrs = text.slice(from);
  return line;
}

/** Fills an inode with all fields of a line except the mode. */
function fillInode(inode: TreeInode, line: Line, strict: boolean): void {
  if (!line.complete) throw new ErrnoError(EINVAL, `fewer than ${FIELDS.indexOf(LAST_NEEDED) + 1} fields`);
  inode.sizeBytes = field('size', () => parseNumber(line.size, FILE_BYTES_MAX));
  for (const name of ['nlink', 'uid', 'gid'] as const)
    inode[name] = field(name, () => parseNumber(line[name], U32_MAX));
  const rdev = field('rdev', () => parseNumber(line.rdev, U32_MAX));
  const type = inode.mode & S_IFMT;
  if (type === S_IFCHR || type === S_IFBLK) inode.rdev = rdev;
  else if (strict && rdev !== 0) refuse('rdev', `${rdev}, but the file is not a device`);
  field('mtime', () => fillTime(inode, line.mtime));
  fillData(inode, line, strict);
  if (line.xattrs.length > XATTR_TEXT_MAX)
    refuse('xattr', `${line.xattrs.length} bytes; ${XATTR_TEXT_MAX} are allowed`);
  field('xattr', () => fillXattrs(inode, line.xattrs));
}

function fillData(inode: TreeInode, line: Line, strict: boolean): void {
  const content = field('content', () => parseOptional(line.content));
  if (content !== undefined && content.length !== inode.sizeBytes)
    refuse('content', `${content.length} bytes, but the size is ${inode.sizeBytes}`);
  const payload = field('payload', () => parsePath(line.payload));
  if (payload !== undefined) field('payload', () => setPayload(inode, payload));
  const isElsewhere = isRegular(inode.mode) && inode.sizeBytes > 0 && !content;
  inode.digest = field('digest', () => parseDigest(line.digest, isElsewhere));
  if (isSymlink(inode.mode)) {
    if (!payload) refuse('payload', 'a symlink needs a target');
    if (strict && inode.sizeBytes !== payload.length)
      refuse('size', `${inode.sizeBytes}, but the target has ${payload.length} bytes`);
    if (strict && content) refuse('content', 'a symlink has no content');
    inode.sizeBytes = payload.length;
    return;
  }
  if (!content) return; // empty content counts as no content
  if (content.length > CONTENT_BYTES_MAX)
    refuse('content', `${content.length} bytes; ${CONTENT_BYTES_MAX} are allowed`);
  inode.content = content;
}

function fillTime(inode: TreeInode, text: ByteString): void {
  const parts = /^(-?[0-9]{1,40})\.([0-9]+)$/.exec(text);
  if (!parts) throw new ErrnoError(EINVAL, `${quoted(text)} is not seconds.nanoseconds`);
  const [, seconds = '', nanoseconds = ''] = parts;
  const exact = BigInt(seconds);
  if (BigInt.asIntN(64, exact) !== exact) throw new ErrnoError(EINVAL, `${seconds} seconds are past 2^63`);
  inode.mtime = secondsOf(exact);
  inode.mtimensec = parseNumber(nanoseconds, U32_MAX); // an image may hold a second or more
}

function fillXattrs(inode: TreeInode, text: ByteString): void {
  const pairs = text.split(' ');
  if (pairs.at(-1) === '') pairs.pop(); // a single space at the end of a line is ignored
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals < 0) throw new ErrnoError(EINVAL, `${quoted(pair)} has no =`);
    const name = parseText(pair.slice(0, equals));
    const value = unescapeField(pair.slice(equals + 1));
    if (name === ORIGIN && inode.origin === undefined && mayHaveOrigin(inode)) inode.origin = value;
    else setXattr(inode, name, value);
  }
}

const mayHaveOrigin = ({ mode, payload }: TreeInode): boolean => isRegular(mode) && payload === '';

function parseNumber(text: ByteString, max: number): number {
  if (!/^[0-9]+$/.test(text)) throw new ErrnoError(EINVAL, `${quoted(text)} is not a number`);
  const value = Number(text);
  if (value > max || (value === max && BigInt(text) !== BigInt(max)))
    throw new ErrnoError(EINVAL, `${text} is more than ${max}`);
  return value;
}

function parseMode(text: ByteString): number {
  if (!/^[0-7]+$/.test(text)) throw new ErrnoError(EINVAL, `${quoted(text)} is not an octal number`);
  const mode = Number.parseInt(text, 8);
  if (mode > U32_MAX) throw new ErrnoError(EINVAL, `${text} has more than 32 bits`);
  if (!hasFileType(mode)) throw new ErrnoError(EINVAL, `${text} has no file type`);
  return mode & 0xffff;
}

/** Unescapes a field that must not contain a NUL, because C would end the string there. */
function parseText(text: ByteString): ByteString {
  const bytes = unescapeField(text);
  if (bytes.includes('\0')) throw new ErrnoError(EINVAL, 'an escaped NUL byte');
  return bytes;
}

const parseOptional = (text: ByteString): ByteString | undefined => (text === '-' ? undefined : unescapeField(text));
const parsePath = (text: ByteString): ByteString | undefined => (text === '-' ? undefined : parseText(text));

function parseTarget(text: ByteString): ByteString {
  if (text === '-') throw new ErrnoError(EINVAL, 'a hard link needs the path of its target');
  return parseText(text);
}

/** @param isNeeded whether the image records the digest; then an empty field is refused, as the line may be truncated */
function parseDigest(text: ByteString, isNeeded: boolean): string | undefined {
  if (text === '' && !isNeeded) return undefined;
  const digest = parseOptional(text);
  if (digest !== undefined && algorithmOfHex(digest) === undefined)
    throw new ErrnoError(EINVAL, `${quoted(digest)} is neither 64 nor 128 hex digits`);
  return digest?.toLowerCase();
}

function checkName(name: ByteString): void {
  if (name === '') throw new ErrnoError(EINVAL, 'an empty name');
  if (name === '.' || name === '..') throw new ErrnoError(EINVAL, `the name ${name}`);
  if (name.length > NAME_BYTES_MAX)
    throw new ErrnoError(EINVAL, `a name of ${name.length} bytes; ${NAME_BYTES_MAX} are allowed`);
}

function quoted(text: ByteString): string {
  return `"${printable(text.length > 40 ? `${text.slice(0, 40)}...` : text)}"`;
}

/**
 * Prints a tree as `composefs-info dump` does: lines without newlines, each directory before its names, in byte order.
 * @example
 * const root = readTree(openImage(readFileSync('small.cfs')));
 * assert.equal([...walkTree(root)].length, [...printDump(root)].length); // a line for each name
 */
export function* printDump(root: TreeInode): Generator<ByteString> {
  const first = firstNames(root);
  for (const [path, { inode, link }] of walk(root))
    yield printLine(path || '/', inode, link ? pathOf(first.get(inode)) : undefined);
}

/** The place of each inode that has hard links. */
export function firstNames(root: TreeInode): Map<TreeInode, Place> {
  const linked = new Set<TreeInode>();
  for (const [, { inode, link }] of walkPlaces(root)) if (link) linked.add(inode);
  const first = new Map<TreeInode, Place>();
  if (linked.size > 0)
    for (const [place, { inode, link }] of walkPlaces(root)) if (!link && linked.has(inode)) first.set(inode, place);
  return first;
}

function printLine(path: ByteString, inode: TreeInode, target: ByteString | undefined): ByteString {
  const { sizeBytes, mode, nlink, uid, gid, rdev, mtime, mtimensec, payload, content, digest, xattrs, origin } = inode;
  let line = `${escapeField(path)} ${sizeBytes} ${target === undefined ? '' : '@'}${mode.toString(8)} ${nlink} ${uid} ${gid}`;
  line += ` ${rdev} ${mtime}.${mtimensec} ${escapeOptional(target ?? payload)} ${escapeOptional(content)} ${digest ?? '-'}`;
  if (origin !== undefined && mayHaveOrigin(inode)) line += ` ${ORIGIN}=${escapeXattr(origin)}`;
  for (const [name, value] of xattrs) line += ` ${escapeXattr(name)}=${escapeXattr(value)}`;
  return line;
}
