/**
 * Values of `overlay.origin`: the file handle of the inode that a copy was made from. Only values of little-endian hosts are
 * understood.
 */
import { bufferOf, byteStringOf } from '../sys/bytes.ts';
import type { Origin } from '../sys/handles.ts';

/** struct ovl_fb, which fills the whole value. Source: kernel fs/overlayfs/overlayfs.h. */
const Fb = {
  version: 0, // u8  0
  magic: 1, //   u8  0xfb
  len: 2, // u8  size of the whole value
  flags: 3, //   u8  FLAG_*
  type: 4, //    u8  handle_type of name_to_handle_at(2)
  uuid: 5, // u8[16]  uuid of the filesystem
  fid: 21, //    f_handle of name_to_handle_at(2)
  SIZE: 21,
} as const;
const MAGIC = 0xfb;
const FLAG_BIG_ENDIAN = 1;
const FLAG_ANY_ENDIAN = 2;
/** The handle is that of an object in the upper layer. */
const FLAG_UPPER = 4;
const FLAGS_KNOWN = FLAG_BIG_ENDIAN | FLAG_ANY_ENDIAN | FLAG_UPPER;

/**
 * Parses the value of the xattr.
 * @returns undefined for an invalid value, and for a version, flag or byte order that is unknown here; the caller treats both as
 *   no origin
 * Source: kernel fs/overlayfs/namei.c, ovl_check_fb_len, ovl_get_fh.
 * @example
 * const value = Uint8Array.of(0, 0xfb, 23, 0, 1, ...new Uint8Array(16), 8, 9);
 * assert.deepEqual(parseOrigin(value)?.handle, { type: 1, bytes: Uint8Array.of(8, 9) });
 * assert.equal(parseOrigin(new Uint8Array(0)), undefined);
 */
export function parseOrigin(value: Uint8Array): Origin | undefined {
  const length = value[Fb.len] ?? 0;
  if (value.length < Fb.SIZE || length < Fb.SIZE || value.length < length) return undefined;
  const flags = value[Fb.flags] as number;
  if (value[Fb.magic] !== MAGIC || value[Fb.version] !== 0 || (flags & ~FLAGS_KNOWN) !== 0) return undefined;
  if ((flags & FLAG_ANY_ENDIAN) === 0 && (flags & FLAG_BIG_ENDIAN) !== 0) return undefined;
  return {
    uuid: byteStringOf(value, Fb.uuid, Fb.fid),
    handle: { type: value[Fb.type] as number, bytes: value.slice(Fb.fid, length) },
  };
}

/**
 * The value of the xattr as copy-up writes it on this host.
 * @param origin its handle has at most 128 bytes, as every file handle does
 * @param isUpper whether the object is in the upper layer
 * Source: kernel fs/overlayfs/copy_up.c, ovl_encode_real_fh.
 */
export function formatOrigin({ uuid, handle }: Origin, isUpper = false): Uint8Array {
  const value = new Uint8Array(Fb.SIZE + handle.bytes.length);
  value[Fb.magic] = MAGIC;
  value[Fb.len] = value.length;
  value[Fb.flags] = isUpper ? FLAG_UPPER : 0;
  value[Fb.type] = handle.type;
  value.set(bufferOf(uuid), Fb.uuid);
  value.set(handle.bytes, Fb.fid);
  return value;
}
