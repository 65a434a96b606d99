/**
 * Parses a tar archive whose bytes come in pieces of any size. Entries and their data go to a visitor as they come, so that an
 * archive of any size takes the memory of one header with its extensions.
 *
 * Understood: ustar, old archives, GNU (long names, numbers in base-256, sparse files), pax (extended headers, sparse files of
 * versions 0.0, 0.1 and 1.0). Global headers of pax are ignored. What follows the two blocks of zeros at the end is ignored, too.
 */
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { EFBIG, ErrnoError } from '../../sys/errno.ts';
import { EXTENSIONS, GLOBAL, SPARSE, type TarEntry, typeOf } from './entry.ts';
import { BLOCK_BYTES, isGnu, isZero, readHeader, refuse, type TarHeader } from './header.ts';
import { Extensions } from './pax.ts';
import { checkSegments, type GnuMap, MapText, readGnuBlock, readGnuMap, type Segment } from './sparse.ts';

/** Receives the entries of an archive in order. */
export interface TarVisitor {
  /** The next entry. @returns whether its data is wanted; if so, `data` and `hole` get it, and then `end` is called */
  entry(entry: TarEntry): boolean;
  /** The next bytes of a file, valid during the call. */
  data(bytes: Uint8Array): void;
  /** The next bytes of a sparse file, all of them zeros. */
  hole(bytes: number): void;
  end(): void;
  /** All data of a file, as an object of a store; `end` is not called then. @returns false to get the bytes instead */
  object?(digest: string): boolean;
}

/** The most bytes of all extensions of one entry, their headers included. */
const EXTENSION_BYTES_MAX = 1 << 20;
const U32_MAX = 0xffffffff;

/** What the next bytes are. */
type State = 'header' | 'extension' | 'gnu map' | 'map' | 'data' | 'end';

/** Takes an archive by calls of `push`, and then `finish`. */
export class TarParser {
  readonly #visitor: TarVisitor;
  readonly #entriesMax: number;
  #state: State = 'header';
  /** The offset in the archive of the next byte. */
  #offset = 0;
  #entries = 0;
  /** A block of which only the first bytes have come. */
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #blockBytes = 0;
  #hasZeroBlock = false;

  /** The offset of the entry's first header, and its name as far as it is known, for messages. */
  #entryAt = 0;
  #name: ByteString | undefined;
  #extensions = new Extensions();
  #extensionBytes = 0;
  #extensionTypes = '';
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;
  /** The extension that is being read: its type, and its bytes so far. */
  #extension: { readonly type: string; readonly bytes: Uint8Array } | undefined;

  /** The header of the entry whose map or data comes next, and what has been read of its map. */
  #header: TarHeader | undefined;
  #gnuMap: GnuMap | undefined;
  #mapText = new MapText();
  /** Bytes of data that are still to come, and of padding after them. */
  #dataLeft = 0;
  #paddingLeft = 0;
  /** Passes the data on; undefined if it is not wanted. */
  #output: Output | undefined;
  /** The size of a file whose data the archive holds as it is; undefined for a sparse one. */
  #wholeBytes: number | undefined;

  /** @param entriesMax how many entries are accepted */
  constructor(visitor: TarVisitor, entriesMax: number) {
    this.#visitor = visitor;
    this.#entriesMax = entriesMax;
  }

  /**
   * Takes the next bytes. Throws ErrnoError with the name and the place of the entry: EUCLEAN for a malformed archive, EFBIG for
   * one beyond a limit; and what the visitor throws.
   */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.#state !== 'end'; ) {
      const taken = this.#isInData() ? this.#takeData(bytes, at) : this.#takeBlock(bytes, at);
      at += taken;
      this.#offset += taken;
    }
  }

  /**
   * Takes an object of a store in place of the next bytes, if these are all data of a file. Otherwise nothing happens, and the
   * bytes have to be pushed. @returns whether it was taken
   */
  pushObject(digest: string, bytes: number): boolean {
    if (this.#state !== 'data' || this.#wholeBytes !== bytes || this.#dataLeft !== bytes) return false;
    if (this.#output && !this.#visitor.object?.(digest)) return false;
    this.#output = undefined;
    this.#offset += bytes;
    this.#dataLeft = 0;
    if (this.#paddingLeft === 0) this.#endEntry();
    return true;
  }

  /**
   * Ends the archive. Throws ErrnoError EUCLEAN if it is cut off. The padding of the last entry may be missing: `umoci insert` leaves
   * it out, and engines take such layers.
   */
  finish(): void {
    if (this.#state === 'data' && this.#dataLeft === 0) this.#endEntry();
    const isBetween = this.#state === 'header' && this.#blockBytes === 0 && this.#extensionBytes === 0;
    if (this.#state !== 'end' && !isBetween) this.#place(() => refuse('the archive is cut off'));
  }

  /** How many of the next bytes nobody wants; `skip` may pass over them. */
  get unwantedBytes(): number {
    return this.#state === 'data' && !this.#output ? this.#dataLeft + this.#paddingLeft : 0;
  }

  /** Passes over the unwanted bytes as if they had been pushed. */
  skip(): void {
    this.#offset += this.unwantedBytes;
    this.#dataLeft = 0;
    this.#paddingLeft = 0;
    this.#endEntry();
  }

  /** Whether the next bytes are data or padding, and not a block to be read as a whole. */
  #isInData(): boolean {
    return this.#state === 'data' || this.#state === 'extension';
  }

  /** Takes a part of the data, the padding, or an extension. @returns how many bytes */
  #takeData(bytes: Uint8Array, at: number): number {
    const available = bytes.length - at;
    if (this.#dataLeft === 0) {
      const count = Math.min(this.#paddingLeft, available);
      this.#paddingLeft -= count;
      if (this.#paddingLeft === 0) this.#endData();
      return count;
    }
    const count = Math.min(this.#dataLeft, available);
    const part = bytes.subarray(at, at + count);
    if (this.#extension) this.#extension.bytes.set(part, this.#extension.bytes.length - this.#dataLeft);
    else this.#output?.pass(part);
    this.#dataLeft -= count;
    if (this.#dataLeft === 0) this.#endOutput();
    if (this.#dataLeft + this.#paddingLeft === 0) this.#endData();
    return count;
  }

  #endData(): void {
    if (this.#extension) this.#place(() => this.#endExtension());
    else this.#endEntry();
  }

  /** Takes a part of a block, and reads the block if it is complete. @returns how many bytes */
  #takeBlock(bytes: Uint8Array, at: number): number {
    if (this.#blockBytes === 0 && bytes.length - at >= BLOCK_BYTES) {
      this.#readBlock(bytes.subarray(at, at + BLOCK_BYTES));
      return BLOCK_BYTES;
    }
    const count = Math.min(BLOCK_BYTES - this.#blockBytes, bytes.length - at);
    this.#block.set(bytes.subarray(at, at + count), this.#blockBytes);
    this.#blockBytes += count;
    if (this.#blockBytes === BLOCK_BYTES) {
      this.#blockBytes = 0;
      this.#readBlock(this.#block);
    }
    return count;
  }

  #readBlock(block: Uint8Array): void {
    this.#place(() => {
      if (this.#state === 'header') this.#readHeaderBlock(block);
      else if (this.#state === 'gnu map') this.#readGnuBlock(block);
      else this.#readMapBlock(block);
    });
  }

  #readHeaderBlock(block: Uint8Array): void {
    if (isZero(block)) {
      if (this.#extensionBytes > 0) refuse('the archive ends after an extension without its entry');
      if (this.#hasZeroBlock) this.#state = 'end';
      this.#hasZeroBlock = true;
      return;
    }
    if (this.#hasZeroBlock) refuse('a header follows a single block of zeros');
    if (this.#extensionBytes === 0) this.#entryAt = this.#blockAt();
    const header = readHeader(block);
    if (EXTENSIONS.includes(header.typeflag)) this.#beginExtension(header);
    else this.#beginEntry(header, block);
  }

  /** The offset of the block that is being read. */
  #blockAt(): number {
    return this.#offset - (this.#offset % BLOCK_BYTES);
  }

  #beginExtension({ typeflag, sizeBytes }: TarHeader): void {
    const sum = this.#extensionBytes + BLOCK_BYTES + sizeBytes;
    if (sum > EXTENSION_BYTES_MAX)
      throw new ErrnoError(EFBIG, `its extensions have ${sum} bytes; ${EXTENSION_BYTES_MAX} are allowed`);
    if (typeflag !== GLOBAL) {
      if (this.#extensionTypes.includes(typeflag)) refuse(`two extensions of type ${typeflag} for one entry`);
      this.#extensionTypes += typeflag;
      this.#extensionBytes = sum;
    }
    this.#extension = { type: typeflag, bytes: new Uint8Array(sizeBytes) };
    this.#beginData('extension', sizeBytes);
    if (sizeBytes === 0) this.#endExtension();
  }

  #endExtension(): void {
    const { type, bytes } = this.#extension as { type: string; bytes: Uint8Array };
    this.#extension = undefined;
    this.#state = 'header';
    if (type === 'x') this.#extensions.add(bytes);
    else if (type === 'L') this.#longName = untilNul(bytes);
    else if (type === 'K') this.#longLink = untilNul(bytes);
    this.#name = this.#extensions.sparseName ?? this.#extensions.path ?? this.#longName;
  }

  #beginEntry(header: TarHeader, block: Uint8Array): void {
    const { path, sparseName } = this.#extensions;
    this.#name = sparseName ?? path ?? this.#longName ?? header.name;
    this.#header = header;
    if (header.typeflag === SPARSE && !isGnu(block)) refuse('a sparse file of GNU in a header of another kind');
    this.#gnuMap = header.typeflag === SPARSE ? readGnuMap(block) : undefined;
    if (this.#gnuMap?.isExtended) this.#state = 'gnu map';
    else this.#openEntry(header);
  }

  #readGnuBlock(block: Uint8Array): void {
    if (!readGnuBlock(block, this.#gnuMap?.segments as Segment[])) this.#openEntry(this.#header as TarHeader);
  }

  /** Begins the data of an entry, or the map in front of it. */
  #openEntry(header: TarHeader): void {
    const { sizeBytes = header.sizeBytes, sparseVersion, segments } = this.#extensions;
    const isFile = typeOf(header, this.#name as ByteString) === 'file';
    this.#beginData('data', isFile ? sizeBytes : 0); // programs write sizes into headers of links, too
    const isOfPax = isFile && !this.#gnuMap && sparseVersion !== undefined;
    if (isOfPax && !segments) this.#beginMap(sparseVersion);
    else this.#showEntry(header, isOfPax ? segments : this.#gnuMap?.segments);
  }

  /** Begins the map of version 1.0, which is the start of the data. */
  #beginMap(version: string): void {
    if (version !== '1.0') refuse(`a sparse file of version ${version}, or without its map`);
    this.#mapText = new MapText();
    this.#state = 'map';
  }

  #readMapBlock(block: Uint8Array): void {
    if (this.#dataLeft < BLOCK_BYTES) refuse('the sparse map is cut off');
    this.#dataLeft -= BLOCK_BYTES;
    if (!this.#mapText.add(block)) return;
    this.#state = 'data';
    this.#showEntry(this.#header as TarHeader, this.#mapText.segments);
  }

  #beginData(state: State, bytes: number): void {
    this.#state = state;
    this.#dataLeft = bytes;
    this.#paddingLeft = -bytes & (BLOCK_BYTES - 1);
  }

  /** Gives the entry to the visitor, which may throw. */
  #showEntry(header: TarHeader, segments: readonly Segment[] | undefined): void {
    if (++this.#entries > this.#entriesMax) throw new ErrnoError(EFBIG, `more than ${this.#entriesMax} entries`);
    const sizeBytes = segments ? (this.#gnuMap?.sizeBytes ?? this.#extensions.sparseSize) : this.#dataLeft;
    if (sizeBytes === undefined) refuse('a sparse file without its size');
    if (segments) checkSegments(segments, sizeBytes, this.#dataLeft);
    const isWanted = this.#visitor.entry(this.#entryOf(header, sizeBytes, segments !== undefined));
    const whole = [{ at: 0, bytes: sizeBytes }];
    this.#output = isWanted ? new Output(this.#visitor, segments ?? whole, sizeBytes) : undefined;
    this.#wholeBytes = segments ? undefined : sizeBytes;
    if (this.#dataLeft === 0) this.#endEntry();
  }

  #entryOf(header: TarHeader, sizeBytes: number, isSparse: boolean): TarEntry {
    const { uid = header.uid, gid = header.gid, linkpath, mtime, xattrs } = this.#extensions;
    checkId('uid', uid);
    checkId('gid', gid);
    const name = this.#name as ByteString;
    // Written out: spread syntax would take several times as long as all else about an entry.
    return {
      name,
      type: typeOf(header, name),
      mode: header.mode,
      uid,
      gid,
      mtime: mtime?.seconds ?? header.mtime,
      mtimensec: mtime?.nanoseconds ?? 0,
      linkname: linkpath ?? this.#longLink ?? header.linkname,
      devmajor: header.devmajor,
      devminor: header.devminor,
      sizeBytes,
      isSparse,
      xattrs,
      at: this.#entryAt,
      dataAt: this.#blockAt() + BLOCK_BYTES,
      storedBytes: this.#dataLeft,
    };
  }

  #endOutput(): void {
    this.#output?.finish();
    this.#output = undefined;
  }

  #endEntry(): void {
    this.#endOutput();
    this.#state = 'header';
    this.#name = undefined;
    this.#extensions = new Extensions();
    this.#extensionBytes = 0;
    this.#extensionTypes = '';
    this.#longName = undefined;
    this.#longLink = undefined;
  }

  /** Runs `read`, and prefixes ErrnoErrors with the name and the place of the entry. */
  #place(read: () => void): void {
    try {
      read();
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      const what = this.#name === undefined ? 'header' : `entry ${shown(this.#name)}`;
      const at = this.#extensionBytes > 0 || this.#name !== undefined ? this.#entryAt : this.#blockAt();
      throw new ErrnoError(error.errno, `${what} at byte ${at}: ${error.message}`);
    }
  }
}

function checkId(what: string, id: number): void {
  if (id > U32_MAX) refuse(`the ${what} ${id} has more than 32 bits`);
}

/** Passes the data of one file to a visitor, with the holes between its segments. */
class Output {
  readonly #visitor: TarVisitor;
  readonly #segments: readonly Segment[];
  readonly #sizeBytes: number;
  #segment = 0;
  /** The offset in the file of the next byte. */
  #at = 0;

  constructor(visitor: TarVisitor, segments: readonly Segment[], sizeBytes: number) {
    this.#visitor = visitor;
    this.#segments = segments;
    this.#sizeBytes = sizeBytes;
  }

  pass(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      const { at, bytes: length } = this.#segments[this.#segment] as Segment;
      this.#fill(at);
      const count = Math.min(at + length - this.#at, bytes.length - from);
      if (count > 0) this.#visitor.data(bytes.subarray(from, from + count));
      this.#at += count;
      from += count;
      if (this.#at === at + length) this.#segment++;
    }
  }

  finish(): void {
    this.#fill(this.#sizeBytes);
    this.#visitor.end();
  }

  /** Makes a hole up to an offset of the file. */
  #fill(to: number): void {
    if (to > this.#at) this.#visitor.hole(to - this.#at);
    this.#at = Math.max(this.#at, to);
  }
}

/** A name for a message, cut if it is longer than a name can be in a directory. */
const shown = (name: ByteString): string =>
  name.length > NAME_SHOWN_MAX ? `${printable(name.slice(0, NAME_SHOWN_MAX))}…` : printable(name);
const NAME_SHOWN_MAX = 256;

/** The text of an extension of GNU, which ends with a NUL. */
function untilNul(bytes: Uint8Array): ByteString {
  const end = bytes.indexOf(0);
  return byteStringOf(bytes, 0, end < 0 ? bytes.length : end);
}
