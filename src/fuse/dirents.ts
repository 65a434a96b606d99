/** Packs the replies of READDIR and READDIRPLUS. */
import type { ByteString } from '../sys/bytes.ts';
import { putU64 } from '../sys/bytes.ts';
import type { Attr } from '../sys/stat.ts';
import { type Out, putEntryOut, putZeros } from './reply.ts';
import { Dirent, DirentPlus, EntryOut } from './wire/abi.ts';

const padded = (length: number): number => (length + 7) & ~7;

/**
 * Packs entries one after another, each padded to 8 bytes. `nextOffset` is the position that the kernel sends to continue after
 * an entry; it is never 0.
 * The caller guarantees valid names: 1 to 255 bytes, no slash, no NUL. One bad name fails the listing.
 *
 * ```
 * plus only: EntryOut (128) | Dirent (24) | name | zeros to a multiple of 8
 * ```
 */
export class DirentPacker {
  private bytes: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(this.bytes.buffer);
  private limit = 0;
  private at = 0;

  /** Starts a reply of at most `limit` bytes. */
  begin(out: Out, limit: number): void {
    this.bytes = out.bytes;
    this.view = out.view;
    this.limit = Math.min(limit, out.bytes.length);
    this.at = 0;
  }

  /** Bytes packed so far. */
  get length(): number {
    return this.at;
  }

  /** Whether `addPlus` has room for the name. Ask before the entry's lookup is counted. */
  hasRoom(name: ByteString): boolean {
    return this.at + padded(DirentPlus.SIZE + name.length) <= this.limit;
  }

  /** Whether `add` has room for the name. */
  hasRoomPlain(name: ByteString): boolean {
    return this.at + padded(Dirent.SIZE + name.length) <= this.limit;
  }

  /** Adds an entry of READDIR. Returns false if the reply is full. */
  add(name: ByteString, ino: number, nextOffset: number, dtype: number): boolean {
    if (!this.hasRoomPlain(name)) return false;
    this.putDirent(name, ino, nextOffset, dtype);
    return true;
  }

  /**
   * Adds an entry of READDIRPLUS. Returns false if the reply is full. With attributes, the entry counts as a lookup of `nodeid`.
   * Without them (and with nodeid 0) the kernel learns only the name, type and inode number, as it must for `.` and `..`.
   */
  addPlus(
    name: ByteString,
    nextOffset: number,
    dtype: number,
    ino: number,
    nodeid: number,
    entryValid: number,
    attrValid: number,
    attr: Attr | undefined,
  ): boolean {
    if (!this.hasRoom(name)) return false;
    if (attr) putEntryOut(this.view, this.at, nodeid, 0, entryValid, attrValid, attr);
    else putZeros(this.view, this.at, EntryOut.SIZE);
    this.at += DirentPlus.dirent;
    this.putDirent(name, ino, nextOffset, dtype);
    return true;
  }

  private putDirent(name: ByteString, ino: number, nextOffset: number, dtype: number): void {
    const { bytes, view, at } = this;
    putU64(view, at + Dirent.ino, ino);
    putU64(view, at + Dirent.off, nextOffset);
    view.setUint32(at + Dirent.namelen, name.length, true);
    view.setUint32(at + Dirent.type, dtype, true);
    const end = at + Dirent.SIZE + name.length;
    for (let i = 0, to = at + Dirent.SIZE; to < end; i++, to++) bytes[to] = name.charCodeAt(i);
    this.at = padded(end);
    for (let to = end; to < this.at; to++) bytes[to] = 0;
  }
}
