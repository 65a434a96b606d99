/**
 * Extended headers of pax: records `LENGTH KEY=VALUE\n`, which replace fields of the header that follows.
 * Sources: POSIX.1-2017, pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(5), SCHILY.xattr.
 */
import { type ByteString, byteStringOf } from '../../sys/bytes.ts';
import { refuse } from './header.ts';
import { SEGMENTS_MAX, type Segment } from './sparse.ts';

/** What extensions say about the next entry; a field that they do not set is undefined. */
export class Extensions {
  path: ByteString | undefined;
  linkpath: ByteString | undefined;
  sizeBytes: number | undefined;
  uid: number | undefined;
  gid: number | undefined;
  mtime: { seconds: number; nanoseconds: number } | undefined;
  readonly xattrs = new Map<ByteString, ByteString>();
  /** The version of a sparse map as `MAJOR.MINOR`, if the records have one. */
  sparseVersion: string | undefined;
  /** The size of a sparse file with its holes, and its name, whose place in the header has another one. */
  sparseSize: number | undefined;
  sparseName: ByteString | undefined;
  /** The map itself, in the versions that have it among the records. */
  segments: Segment[] | undefined;

  #major = '0';
  #minor = '0';
  /** The offset of a segment of version 0.0 whose size comes in the next record. */
  #pendingAt: number | undefined;

  /** Takes the records of one extended header. Throws ErrnoError EUCLEAN for a malformed one. */
  add(bytes: Uint8Array): void {
    visitRecords(bytes, (key, value) => {
      if (key.startsWith(XATTR)) this.#setXattr(key.slice(XATTR.length), value);
      else if (key.startsWith(SPARSE)) this.#setSparse(key.slice(SPARSE.length), value);
      else this.#set(key, value);
    });
  }

  #setXattr(name: ByteString, value: ByteString): void {
    if (name === '' || name.includes('\0')) refuse('an xattr without a name, or with a NUL in it');
    this.xattrs.set(name, value);
  }

  /** Sets a field; an empty value takes it back. */
  #set(key: ByteString, value: ByteString): void {
    switch (key) {
      case 'path':
        this.path = value === '' ? undefined : withoutNul(key, value);
        break;
      case 'linkpath':
        this.linkpath = value === '' ? undefined : withoutNul(key, value);
        break;
      case 'size':
        this.sizeBytes = value === '' ? undefined : decimal(key, value);
        break;
      case 'uid':
        this.uid = value === '' ? undefined : decimal(key, value);
        break;
      case 'gid':
        this.gid = value === '' ? undefined : decimal(key, value);
        break;
      case 'mtime':
        this.mtime = value === '' ? undefined : timeOf(value);
    }
  }

  /** The records of GNU.sparse.*. Versions 0.0 and 0.1 have no number of their own: their maps tell them apart. */
  #setSparse(key: ByteString, value: ByteString): void {
    switch (key) {
      case 'major':
        this.#major = value;
        break;
      case 'minor':
        this.#minor = value;
        break;
      case 'name':
        this.sparseName = withoutNul(key, value);
        return;
      case 'size':
      case 'realsize':
        this.sparseSize = decimal(key, value);
        return;
      case 'numblocks':
        if (decimal(key, value) > SEGMENTS_MAX) refuse(`a sparse file of more than ${SEGMENTS_MAX} segments`);
        this.segments ??= [];
        break;
      case 'offset':
        this.#pendingAt = decimal(key, value);
        return;
      case 'numbytes':
        this.#addSegment(decimal(key, value));
        return;
      case 'map':
        this.segments = segmentsOf(value);
        break;
      default:
        return;
    }
    this.sparseVersion = `${this.#major}.${this.#minor}`;
  }

  #addSegment(bytes: number): void {
    if (this.#pendingAt === undefined) refuse('GNU.sparse.numbytes without an offset');
    this.segments ??= [];
    if (this.segments.push({ at: this.#pendingAt, bytes }) > SEGMENTS_MAX)
      refuse(`a sparse file of more than ${SEGMENTS_MAX} segments`);
    this.#pendingAt = undefined;
  }
}

const XATTR = 'SCHILY.xattr.';
const SPARSE = 'GNU.sparse.';
/** The most digits of a record's length: no extended header is that long. */
const LENGTH_DIGITS = 10;
const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;
const ZERO = 0x30;

/** Visits records. A value may hold any byte, so that only its length says where it ends. */
function visitRecords(bytes: Uint8Array, visit: (key: ByteString, value: ByteString) => void): void {
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(SPACE, at);
    const end = at + lengthAt(bytes, at, space);
    const equals = bytes.indexOf(EQUALS, space);
    if (end > bytes.length || bytes[end - 1] !== NEWLINE) refuse('a record of an extended header is cut off');
    if (equals < 0 || equals >= end || equals === space + 1) refuse('a record of an extended header has no key');
    visit(byteStringOf(bytes, space + 1, equals), byteStringOf(bytes, equals + 1, end - 1));
    at = end;
  }
}

/** The length of a record, itself included, whose digits are in front of the space. */
function lengthAt(bytes: Uint8Array, at: number, space: number): number {
  let length = 0;
  for (let i = at; i < space; i++) {
    const digit = (bytes[i] as number) - ZERO;
    if (digit < 0 || digit > 9) return refuse('a record of an extended header has no length');
    length = length * 10 + digit;
  }
  if (space <= at || space - at > LENGTH_DIGITS || length <= space - at + 1)
    return refuse('a record of an extended header has no length');
  return length;
}

function withoutNul(key: ByteString, value: ByteString): ByteString {
  return value.includes('\0') ? refuse(`the ${key} of an extended header has a NUL`) : value;
}

/** A decimal number. Throws ErrnoError EUCLEAN for other texts, negative numbers among them. */
export function decimal(key: ByteString, text: ByteString): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : refuse(`the ${key} of an extended header is no number below 2^53`);
}

/** A time with a fraction, of which nine digits count. Before 1970, nanoseconds still count forward. */
function timeOf(text: ByteString): { seconds: number; nanoseconds: number } {
  const [, sign = '', digits = '', fraction = ''] = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(text) ?? [];
  const seconds = digits === '' ? Number.NaN : Number(digits);
  if (!Number.isSafeInteger(seconds)) refuse('the mtime of an extended header is no time');
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign === '') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: 0 - seconds, nanoseconds }
    : { seconds: -1 - seconds, nanoseconds: 1e9 - nanoseconds };
}

/** The map of version 0.1: offsets and sizes in turn, separated by commas. */
function segmentsOf(text: ByteString): Segment[] {
  const numbers = text === '' ? [] : text.split(',', 2 * SEGMENTS_MAX + 2).map(number => decimal('sparse map', number));
  if (numbers.length % 2 !== 0) refuse('the sparse map has an offset without a size');
  if (numbers.length > 2 * SEGMENTS_MAX) refuse(`a sparse file of more than ${SEGMENTS_MAX} segments`);
  return Array.from({ length: numbers.length / 2 }, (_, i) => {
    return { at: numbers[2 * i] as number, bytes: numbers[2 * i + 1] as number };
  });
}
