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
import { type ByteString, byteStringOf, detached, printable, secondsOf } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFBLK, S_IFCHR, S_IFMT } from '../sys/stat.ts';
import { algorithmOfHex } from '../verity/algorithms.ts';
import { DumpLine, Field, field, parseNumber, quoted, refuse, unescapedText } from './dump-line.ts';
import { unescapeField } from './escape.ts';
import { ORIGIN, Stage, type StageOptions } from './stage.ts';
import type { StagedInodes } from './staged.ts';
import {
  addXattr,
  CONTENT_BYTES_MAX,
  FILE_BYTES_MAX,
  hasFileType,
  NAME_BYTES_MAX,
  NO_XATTRS,
  newInode,
  setPayload,
  type TreeEntry,
  type TreeInode,
} from './tree.ts';

const U32_MAX = 0xffffffff;
const XATTR_TEXT_MAX = 65535;

/**
 * Parses a dump from lines without newlines. Throws ErrnoError EINVAL with line, field and reason.
 * @example
 * const root = parseDump(linesOf([readFileSync('small.dump')]));
 * assert.deepEqual(Buffer.from(writeImage(root)), readFileSync('small.cfs'));
 */
export function parseDump(lines: Iterable<ByteString>, strict = false): TreeInode {
  return readLines(lines, new DumpReader(new TreeTarget(), strict)).inode;
}

/** Parses a dump as `parseDump` does, and stages it without making a tree. */
export function stageDump(lines: Iterable<ByteString>, strict: boolean, options: StageOptions): StagedInodes {
  const stage = new Stage(options);
  readLines(lines, new DumpReader(stage, strict));
  return stage.finish();
}

function readLines<Name>(lines: Iterable<ByteString>, reader: DumpReader<Name>): Name {
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

/** What is made of a dump. A Name is what a name leads to: an inode, or a hard link whose inode is not known yet. */
interface DumpTarget<Name> {
  isDirectory(name: Name): boolean;
  find(directory: Name, name: ByteString): Name | undefined;
  addRoot(inode: TreeInode): Name;
  addUnder(directory: Name, name: ByteString, inode: TreeInode): Name;
  addLink(directory: Name, name: ByteString, inode: TreeInode): Name;
  point(link: Name, to: Name): void;
}

class TreeTarget implements DumpTarget<TreeEntry> {
  isDirectory({ inode }: TreeEntry): boolean {
    return isDirectory(inode.mode);
  }

  find({ inode }: TreeEntry, name: ByteString): TreeEntry | undefined {
    return inode.entries.get(name);
  }

  addRoot(inode: TreeInode): TreeEntry {
    return { inode, link: false };
  }

  addUnder(directory: TreeEntry, name: ByteString, inode: TreeInode, link = false): TreeEntry {
    const entry = { inode, link };
    directory.inode.entries.set(name, entry);
    return entry;
  }

  addLink(directory: TreeEntry, name: ByteString, inode: TreeInode): TreeEntry {
    return this.addUnder(directory, name, inode, true);
  }

  point(link: TreeEntry, { inode }: TreeEntry): void {
    link.inode = inode;
  }
}

/** Reads lines into a target: call `add` for each, then `finish`. */
class DumpReader<Name> {
  readonly #target: DumpTarget<Name>;
  readonly #strict: boolean;
  #root: Name | undefined;
  #lineNumber = 0;
  readonly #links = new Map<Name, PendingLink>();
  readonly #line = new DumpLine();
  readonly #xattrs = new XattrText();
  #directory: { path: ByteString; name: Name | undefined } = { path: '', name: undefined };

  /**
   * @param strict refuses fields that have no effect: a device number without a device, a size or content that contradicts a
   * symlink
   */
  constructor(target: DumpTarget<Name>, strict: boolean) {
    this.#target = target;
    this.#strict = strict;
  }

  /** Adds the next line. Throws ErrnoError EINVAL with line, field and reason. */
  add(line: ByteString): void {
    this.#lineNumber++;
    at(this.#lineNumber, () => {
      this.#line.split(line);
      this.#addLine(this.#line);
    });
  }

  /** Resolves the hard links and returns the root. Throws ErrnoError EINVAL for an empty dump or a bad link. */
  finish(): Name {
    if (this.#root === undefined) throw new ErrnoError(EINVAL, 'the dump is empty');
    for (const [entry, { lineNumber }] of this.#links)
      at(lineNumber, () => field(Field.payload, () => this.#resolve(entry)));
    return this.#root;
  }

  #addLine(line: DumpLine): void {
    const path = line.text(Field.path);
    const link = line.hasMark(Field.mode);
    const inode = newInode(parseMode(line));
    if (link && isDirectory(inode.mode)) refuse(Field.mode, 'a directory cannot be a hard link');
    if (!link) fillInode(inode, line, this.#xattrs, this.#strict);
    const entry = field(Field.path, () => this.#place(path, inode, link));
    if (link) this.#links.set(entry, { lineNumber: this.#lineNumber, target: parseTarget(line) });
  }

  /** Adds an inode under its path. */
  #place(path: ByteString, inode: TreeInode, link: boolean): Name {
    if (path === '/') return this.#placeRoot(inode);
    if (this.#root === undefined) throw new ErrnoError(EINVAL, 'the root "/" must come first');
    const nameAt = path.lastIndexOf('/') + 1;
    const parent = this.#parentOf(path, nameAt);
    if (parent === undefined) throw new ErrnoError(EINVAL, `no earlier line has the directory of ${printable(path)}`);
    if (!this.#target.isDirectory(parent))
      throw new ErrnoError(EINVAL, `the parent of ${printable(path)} is not a directory`);
    const name = detached(path.slice(nameAt));
    checkName(name);
    if (this.#target.find(parent, name) !== undefined)
      throw new ErrnoError(EINVAL, `${printable(path)} has a line already`);
    return link ? this.#target.addLink(parent, name, inode) : this.#target.addUnder(parent, name, inode);
  }

  #placeRoot(inode: TreeInode): Name {
    if (this.#root !== undefined) throw new ErrnoError(EINVAL, 'a second root');
    if (!isDirectory(inode.mode)) throw new ErrnoError(EINVAL, 'the root is not a directory');
    this.#root = this.#target.addRoot(inode);
    return this.#root;
  }

  /** The inode at the first `nameAt` bytes of a path. The directory of the line before is remembered: most lines share it. */
  #parentOf(path: ByteString, nameAt: number): Name | undefined {
    const { path: known, name } = this.#directory;
    if (name !== undefined && known.length === nameAt && path.startsWith(known)) return name;
    const directory = path.slice(0, nameAt);
    this.#directory = { path: directory, name: this.#find(directory) };
    return this.#directory.name;
  }

  /** What a path leads to, or undefined; repeated slashes count as one. */
  #find(path: ByteString): Name | undefined {
    let found = this.#root;
    for (const name of path.split('/')) if (name !== '' && found !== undefined) found = this.#target.find(found, name);
    return found;
  }

  /** Points a hard link, and every link on the way to its target, at the target's inode. */
  #resolve(name: Name): void {
    const way = new Set<Name>();
    let at = name;
    for (let link = this.#links.get(at); link; link = this.#links.get(at)) {
      if (way.has(at)) throw new ErrnoError(EINVAL, `${printable(link.target)} is a hard link to itself`);
      way.add(at);
      const target = this.#find(link.target);
      if (target === undefined)
        throw new ErrnoError(EINVAL, `no line has ${printable(link.target)}, the target of the hard link`);
      at = target;
    }
    if (this.#target.isDirectory(at)) throw new ErrnoError(EINVAL, 'a hard link to a directory');
    for (const link of way) {
      this.#target.point(link, at);
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

/** Fills an inode with all fields of a line except the mode. */
function fillInode(inode: TreeInode, line: DumpLine, xattrs: XattrText, strict: boolean): void {
  if (!line.isComplete) throw new ErrnoError(EINVAL, 'fewer than 8 fields');
  inode.sizeBytes = line.number(Field.size, FILE_BYTES_MAX);
  inode.nlink = line.number(Field.nlink, U32_MAX);
  inode.uid = line.number(Field.uid, U32_MAX);
  inode.gid = line.number(Field.gid, U32_MAX);
  const rdev = line.number(Field.rdev, U32_MAX);
  const type = inode.mode & S_IFMT;
  if (type === S_IFCHR || type === S_IFBLK) inode.rdev = rdev;
  else if (strict && rdev !== 0) refuse(Field.rdev, `${rdev}, but the file is not a device`);
  fillTime(inode, line);
  fillData(inode, line, strict);
  if (line.lengthOf(Field.xattr) > XATTR_TEXT_MAX)
    refuse(Field.xattr, `${line.lengthOf(Field.xattr)} bytes; ${XATTR_TEXT_MAX} are allowed`);
  if (line.lengthOf(Field.xattr) > 0) field(Field.xattr, () => xattrs.fill(inode, line.raw(Field.xattr)));
}

function fillData(inode: TreeInode, line: DumpLine, strict: boolean): void {
  const content = line.isUnset(Field.content) ? undefined : line.value(Field.content);
  if (content !== undefined && content.length !== inode.sizeBytes)
    refuse(Field.content, `${content.length} bytes, but the size is ${inode.sizeBytes}`);
  const payload = line.isUnset(Field.payload) ? undefined : line.text(Field.payload);
  if (payload !== undefined) field(Field.payload, () => setPayload(inode, payload));
  const isElsewhere = isRegular(inode.mode) && inode.sizeBytes > 0 && !content;
  inode.digest = parseDigest(line, isElsewhere);
  if (isSymlink(inode.mode)) {
    if (!payload) refuse(Field.payload, 'a symlink needs a target');
    if (strict && inode.sizeBytes !== payload.length)
      refuse(Field.size, `${inode.sizeBytes}, but the target has ${payload.length} bytes`);
    if (strict && content) refuse(Field.content, 'a symlink has no content');
    inode.sizeBytes = payload.length;
    return;
  }
  if (!content) return; // empty content counts as no content
  if (content.length > CONTENT_BYTES_MAX)
    refuse(Field.content, `${content.length} bytes; ${CONTENT_BYTES_MAX} are allowed`);
  inode.content = content;
}

function fillTime(inode: TreeInode, line: DumpLine): void {
  const plain = line.plainTime(Field.mtime);
  if (plain && plain[1] <= U32_MAX) [inode.mtime, inode.mtimensec] = plain;
  else field(Field.mtime, () => fillAnyTime(inode, line.raw(Field.mtime)));
}

function fillAnyTime(inode: TreeInode, text: ByteString): void {
  const parts = /^(-?[0-9]{1,40})\.([0-9]+)$/.exec(text);
  if (!parts) throw new ErrnoError(EINVAL, `${quoted(text)} is not seconds.nanoseconds`);
  const [, seconds = '', nanoseconds = ''] = parts;
  const exact = BigInt(seconds);
  if (BigInt.asIntN(64, exact) !== exact) throw new ErrnoError(EINVAL, `${seconds} seconds are past 2^63`);
  inode.mtime = secondsOf(exact);
  inode.mtimensec = parseNumber(nanoseconds, U32_MAX); // an image may hold a second or more
}

/** Reads xattrs. Inodes with the same ones in a row share their map. */
class XattrText {
  #last: { text: ByteString; xattrs: ReadonlyMap<ByteString, ByteString> } = { text: '', xattrs: NO_XATTRS };

  /** Gives an inode the xattrs of a line. */
  fill(inode: TreeInode, text: ByteString): void {
    if (text !== this.#last.text || mayHaveOrigin(inode)) {
      const xattrs = new Map<ByteString, ByteString>();
      fillXattrs(inode, xattrs, text);
      inode.xattrs = xattrs;
      if (!mayHaveOrigin(inode)) this.#last = { text, xattrs };
    } else inode.xattrs = this.#last.xattrs;
  }
}

function fillXattrs(inode: TreeInode, xattrs: Map<ByteString, ByteString>, text: ByteString): void {
  const pairs = text.split(' ');
  if (pairs.at(-1) === '') pairs.pop(); // a single space at the end of a line is ignored
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals < 0) throw new ErrnoError(EINVAL, `${quoted(pair)} has no =`);
    const name = unescapedText(pair.slice(0, equals));
    const value = unescapeField(pair.slice(equals + 1));
    if (name === ORIGIN && inode.origin === undefined && mayHaveOrigin(inode)) inode.origin = value;
    else addXattr(xattrs, name, value);
  }
}

/** Whether a dump shows an inode's origin, as its first xattr. */
export const mayHaveOrigin = ({ mode, payload }: TreeInode): boolean => isRegular(mode) && payload === '';

function parseMode(line: DumpLine): number {
  const mode = line.octal(Field.mode, U32_MAX);
  if (!hasFileType(mode)) refuse(Field.mode, `${line.raw(Field.mode).replace('@', '')} has no file type`);
  return mode & 0xffff;
}

function parseTarget(line: DumpLine): ByteString {
  if (line.isUnset(Field.payload)) refuse(Field.payload, 'a hard link needs the path of its target');
  return line.text(Field.payload);
}

/** @param isNeeded whether the image records the digest; then an empty field is refused, as the line may be truncated */
function parseDigest(line: DumpLine, isNeeded: boolean): string | undefined {
  if (line.isUnset(Field.digest) || (line.lengthOf(Field.digest) === 0 && !isNeeded)) return undefined;
  const digest = line.value(Field.digest);
  if (algorithmOfHex(digest) === undefined) refuse(Field.digest, `${quoted(digest)} is neither 64 nor 128 hex digits`);
  return digest.toLowerCase();
}

function checkName(name: ByteString): void {
  if (name === '') throw new ErrnoError(EINVAL, 'an empty name');
  if (name === '.' || name === '..') throw new ErrnoError(EINVAL, `the name ${name}`);
  if (name.length > NAME_BYTES_MAX)
    throw new ErrnoError(EINVAL, `a name of ${name.length} bytes; ${NAME_BYTES_MAX} are allowed`);
}
