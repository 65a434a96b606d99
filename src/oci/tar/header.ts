/**
 * The header block of a tar archive: its fields at their offsets, and how numbers and texts are read from them.
 * Sources: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar, src/tar.h.
 */
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../../sys/errno.ts';

/** An archive is a sequence of blocks: a header, and the data of its entry, padded to a whole block. */
export const BLOCK_BYTES = 512;

/** struct posix_header. All fields are text; a number is octal, or base-256 if its first byte has the highest bit. */
export const Header = {
  name: 0,
  mode: 100,
  uid: 108,
  gid: 116,
  size: 124,
  mtime: 136,
  chksum: 148,
  typeflag: 156,
  linkname: 157,
  magic: 257, // "ustar\0" and the version "00"; GNU: "ustar  \0"
  uname: 265,
  gname: 297,
  devmajor: 329,
  devminor: 337,
  prefix: 345, // comes before the name, with a slash between; only with the magic of POSIX
  SIZE: 500,
} as const;

/** struct oldgnu_header, the end of a header of GNU: the map of a sparse file. */
export const GnuHeader = { sparse: 386, isextended: 482, realsize: 483, SIZE: 495 } as const;
/** struct sparse, one segment of a map; a header has 4 of them, and each block that follows it 21. */
export const SparseField = { offset: 0, numbytes: 12, SIZE: 24 } as const;
export const SPARSE_IN_HEADER = 4;
export const SPARSE_IN_BLOCK = 21;
/** struct sparse_header: whether another block of the map follows. */
export const SPARSE_BLOCK_ISEXTENDED = 504;

/** The fields of one header, before extensions replace them. */
export interface TarHeader {
  readonly name: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtime: number;
  /** One character: '0' to '7', 'x', 'g', 'L', 'K' or 'S'; '\0' in old archives. */
  readonly typeflag: string;
  readonly linkname: ByteString;
  readonly devmajor: number;
  readonly devminor: number;
}

const MAGIC_POSIX = 'ustar\x0000';
const MAGIC_GNU = 'ustar  \0';

/** Whether a block has no bytes other than zeros. Two of them end an archive. */
export function isZero(block: Uint8Array): boolean {
  for (let i = 0; i < BLOCK_BYTES; i++) if (block[i] !== 0) return false;
  return true;
}

/** Reads a header block. Throws ErrnoError EUCLEAN for a wrong checksum, and for a field that is no number. */
export function readHeader(block: Uint8Array): TarHeader {
  checkSum(block);
  const magic = byteStringOf(block, Header.magic, Header.uname);
  const hasDevices = magic === MAGIC_POSIX || magic === MAGIC_GNU;
  const name = textIn(block, Header.name, Header.mode);
  const prefix = magic === MAGIC_POSIX ? textIn(block, Header.prefix, Header.SIZE) : '';
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    mode: sizeIn(block, Header.mode, Header.uid, 'mode'),
    uid: sizeIn(block, Header.uid, Header.gid, 'uid'),
    gid: sizeIn(block, Header.gid, Header.size, 'gid'),
    sizeBytes: sizeIn(block, Header.size, Header.mtime, 'size'),
    mtime: numberIn(block, Header.mtime, Header.chksum, 'mtime'),
    typeflag: String.fromCharCode(block[Header.typeflag] as number),
    linkname: textIn(block, Header.linkname, Header.magic),
    devmajor: hasDevices ? sizeIn(block, Header.devmajor, Header.devminor, 'devmajor') : 0,
    devminor: hasDevices ? sizeIn(block, Header.devminor, Header.prefix, 'devminor') : 0,
  };
}

/** Whether a header has the layout of GNU, whose end may hold a map. */
export const isGnu = (block: Uint8Array): boolean => byteStringOf(block, Header.magic, Header.uname) === MAGIC_GNU;

/** The checksum is the sum of all bytes, its own field counted as spaces; some old programs added them as signed bytes. */
function checkSum(block: Uint8Array): void {
  const want = numberIn(block, Header.chksum, Header.typeflag, 'checksum');
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) {
    const byte = i >= Header.chksum && i < Header.typeflag ? SPACE : (block[i] as number);
    unsigned += byte;
    signed += (byte << 24) >> 24;
  }
  if (want !== unsigned && want !== signed) refuse(`the checksum is ${want}, but the header has ${unsigned}`);
}

const SPACE = 0x20;
const ZERO = 0x30;
const SEVEN = 0x37;

/** The text of a field, up to its first NUL. */
export function textIn(block: Uint8Array, from: number, to: number): ByteString {
  const end = block.indexOf(0, from);
  return byteStringOf(block, from, end < 0 || end > to ? to : end);
}

/** A number that is not negative. Throws ErrnoError EUCLEAN. */
export function sizeIn(block: Uint8Array, from: number, to: number, what: string): number {
  const value = numberIn(block, from, to, what);
  return value >= 0 ? value : refuse(`the ${what} is negative: ${value}`);
}

/** A number of a field; 0 if the field is empty. Throws ErrnoError EUCLEAN. */
function numberIn(block: Uint8Array, from: number, to: number, what: string): number {
  if ((block[from] as number) & 0x80) return base256In(block, from, to, what);
  let at = from;
  while (at < to && (block[at] === SPACE || block[at] === 0)) at++;
  const start = at;
  let value = 0;
  for (; at < to; at++) {
    const byte = block[at] as number;
    if (byte < ZERO || byte > SEVEN) break;
    value = value * 8 + (byte - ZERO);
  }
  const isEnded = at === to || block[at] === SPACE || block[at] === 0;
  if (!isEnded || (at === start && at < to)) refuse(`the ${what} is no number: "${shown(block, from, to)}"`);
  return value;
}

/** A big-endian number in two's complement of all bits but the highest one, as GNU tar writes what octal cannot hold. */
function base256In(block: Uint8Array, from: number, to: number, what: string): number {
  const isNegative = ((block[from] as number) & 0x40) !== 0;
  const flip = isNegative ? 0xff : 0;
  let value = ((block[from] as number) ^ flip) & 0x3f;
  for (let at = from + 1; at < to; at++) value = value * 256 + ((block[at] as number) ^ flip);
  if (!Number.isSafeInteger(value)) refuse(`the ${what} is too large: "${shown(block, from, to)}"`);
  return isNegative ? -1 - value : value;
}

const shown = (block: Uint8Array, from: number, to: number): string => printable(byteStringOf(block, from, to));

export function refuse(why: string): never {
  throw new ErrnoError(EUCLEAN, why);
}
