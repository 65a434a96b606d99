/**
 * Prints one line per message, from the tables of abi.ts:
 *
 * ```
 * → 42 LOOKUP node 1 "usr"
 * ← 42 LOOKUP nodeid 35 mode 040755 size 4096
 * ```
 */
import { byteStringOf, getU64, printable } from '../sys/bytes.ts';
import { errnoName } from '../sys/errno.ts';
import { Statx } from '../sys/statx.ts';
import type { Reply, Tracer } from './dispatch.ts';
import { flagsOf } from './init.ts';
import {
  AccessIn,
  AttrOut,
  BatchForgetIn,
  EntryOut,
  Fopen,
  ForgetIn,
  FuseAttr,
  GetattrIn,
  GetxattrIn,
  InHeader,
  InitIn,
  InitOut,
  InterruptIn,
  Kstatfs,
  LseekIn,
  LseekOut,
  OpenIn,
  OpenOut,
  OutHeader,
  ReadIn,
  ReleaseIn,
  StatxIn,
  StatxOut,
} from './wire/abi.ts';
import { Opcode, opcodeName } from './wire/opcode.ts';

/** A Tracer that writes a line for every message. */
export function traceTo(write: (line: string) => void): Tracer {
  return {
    request: (view, length) => write(requestLine(view, length)),
    reply: (reply, length, opcode) => write(replyLine(reply, length, opcode)),
  };
}

/** One integer of a message: its label, its offset in the body and its size in bytes. */
interface Field {
  readonly label: string;
  readonly at: number;
  readonly size: number;
}

type StructLayout = Readonly<Record<string, number>>;

/** Fields of a structure that starts `at` bytes into the body. Each field ends where the next one starts. */
function fields<L extends StructLayout>(layout: L, labels: readonly (keyof L & string)[], at = 0): Field[] {
  const offsets = Object.values(layout).sort((a, b) => a - b);
  return labels.map(label => {
    const from = layout[label] as number;
    const next = offsets.find(offset => offset > from) as number;
    return { label, at: at + from, size: next - from };
  });
}

/** The layout of a message's body: its fields, and the offset of its text if it has one. */
interface Shape {
  readonly fields: readonly Field[];
  readonly textAt?: number;
}
const only = (...lists: Field[][]): Shape => ({ fields: lists.flat() });
const text = (textAt: number, ...lists: Field[][]): Shape => ({ fields: lists.flat(), textAt });

const readIn = only(fields(ReadIn, ['fh', 'offset', 'size']));
const releaseIn = only(fields(ReleaseIn, ['fh']));
const openIn = only(fields(OpenIn, ['flags']));
const getxattrIn = fields(GetxattrIn, ['size']);

const requests: ReadonlyMap<number, Shape> = new Map<number, Shape>([
  [Opcode.LOOKUP, text(0)],
  [Opcode.FORGET, only(fields(ForgetIn, ['nlookup']))],
  [Opcode.BATCH_FORGET, only(fields(BatchForgetIn, ['count']))],
  [Opcode.INTERRUPT, only(fields(InterruptIn, ['unique']))],
  [Opcode.INIT, only(fields(InitIn, ['major', 'minor', 'max_readahead']))],
  [Opcode.GETATTR, only(fields(GetattrIn, ['getattr_flags']))],
  [Opcode.STATX, only(fields(StatxIn, ['sx_flags', 'sx_mask']))],
  [Opcode.ACCESS, only(fields(AccessIn, ['mask']))],
  [Opcode.GETXATTR, text(GetxattrIn.SIZE, getxattrIn)],
  [Opcode.LISTXATTR, only(getxattrIn)],
  [Opcode.OPEN, openIn],
  [Opcode.OPENDIR, openIn],
  [Opcode.READ, readIn],
  [Opcode.READDIR, readIn],
  [Opcode.READDIRPLUS, readIn],
  [Opcode.LSEEK, only(fields(LseekIn, ['fh', 'offset', 'whence']))],
  [Opcode.RELEASE, releaseIn],
  [Opcode.RELEASEDIR, releaseIn],
]);

const openOut = only(fields(OpenOut, ['fh', 'open_flags', 'backing_id']));
const attr = (at: number): Field[] => fields(FuseAttr, ['ino', 'mode', 'size'], at);

/** An entry with nodeid 0 has no other valid fields. */
const missingEntry = only(fields(EntryOut, ['nodeid', 'entry_valid']));

const replies: ReadonlyMap<number, Shape> = new Map<number, Shape>([
  [Opcode.LOOKUP, only(fields(EntryOut, ['nodeid', 'entry_valid', 'attr_valid']), attr(EntryOut.attr))],
  [Opcode.INIT, only(fields(InitOut, ['major', 'minor', 'max_readahead', 'max_pages', 'max_stack_depth']))],
  [Opcode.GETATTR, only(fields(AttrOut, ['attr_valid']), attr(AttrOut.attr))],
  [Opcode.STATX, only(fields(StatxOut, ['attr_valid']), fields(Statx, ['ino', 'mode', 'size'], StatxOut.stat))],
  [Opcode.READLINK, text(0)],
  [Opcode.STATFS, only(fields(Kstatfs, ['blocks', 'bfree', 'files', 'bsize']))],
  [Opcode.OPEN, openOut],
  [Opcode.OPENDIR, openOut],
  [Opcode.LSEEK, only(fields(LseekOut, ['offset']))],
]);

function requestLine(view: DataView, length: number): string {
  const opcode = view.getUint32(InHeader.opcode, true);
  const unique = getU64(view, InHeader.unique);
  const start = `→ ${unique} ${opcodeName(opcode)} node ${getU64(view, InHeader.nodeid)}`;
  return (
    start + bodyText(view, InHeader.SIZE, length, requests.get(opcode), opcode === Opcode.INIT ? InitIn : undefined)
  );
}

function replyLine({ header, body: { view } }: Reply, length: number, opcode: number): string {
  const error = header.view.getInt32(OutHeader.error, true);
  const start = `← ${getU64(header.view, OutHeader.unique)} ${opcodeName(opcode)}`;
  if (error !== 0) return `${start} ${errnoName(error)}`;
  if (length === OutHeader.SIZE) return `${start} 0 bytes`;
  const isMissing = opcode === Opcode.LOOKUP && getU64(view, EntryOut.nodeid) === 0;
  const shape = isMissing ? missingEntry : replies.get(opcode);
  const bodyBytes = length - OutHeader.SIZE;
  return start + bodyText(view, 0, bodyBytes, shape, opcode === Opcode.INIT ? InitOut : undefined);
}

/** The text of bytes `from` to `end`, starting with a space. Fields past the end of the message are left out. */
function bodyText(
  view: DataView,
  from: number,
  end: number,
  shape: Shape | undefined,
  init: { flags: number; flags2: number } | undefined,
): string {
  if (!shape) return end > from ? ` ${end - from} bytes` : '';
  let line = '';
  for (const field of shape.fields) {
    const at = from + field.at;
    if (at + field.size <= end) line += ` ${field.label} ${valueText(view, at, field)}`;
  }
  if (shape.textAt !== undefined && from + shape.textAt <= end) {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, end);
    line += ` "${printable(byteStringOf(bytes, from + shape.textAt).replace(/\0$/, ''))}"`;
  }
  if (init && from + init.flags2 + 4 <= end) {
    const flags = flagsOf(view.getUint32(from + init.flags, true), view.getUint32(from + init.flags2, true));
    line += ` flags ${[...flags].join('|')}`;
  }
  return line;
}

function valueText(view: DataView, at: number, { label, size }: Field): string {
  const value = size === 8 ? getU64(view, at) : size === 4 ? view.getUint32(at, true) : view.getUint16(at, true);
  if (label === 'mode') return `0${value.toString(8)}`;
  if (label === 'open_flags') return fopenText(value);
  if (label.endsWith('flags') || label.endsWith('mask')) return `0x${value.toString(16)}`;
  return label.endsWith('_valid') && value > 2 ** 62 ? 'forever' : String(value);
}

/** The names of Fopen bits; bits without a name appear as one number. */
function fopenText(flags: number): string {
  let rest = flags;
  const names: string[] = [];
  for (const [name, bit] of Object.entries(Fopen)) {
    if (flags & bit) names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) names.push(`0x${(rest >>> 0).toString(16)}`);
  return names.join('|') || '0';
}
