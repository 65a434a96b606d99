/**
 * The flags of chattr(1) that forbid changes: immutable and append-only. As in the kernel, an object of the upper layer has them in
 * the xattr `overlay.protattr` instead of its inode, where they would keep the overlay from renaming and marking it. The kernel
 * knows nothing of them in a FUSE inode, so each operation asks here.
 * Source: kernel fs/overlayfs/util.c, ovl_check_protattr and ovl_set_protattr; for what they forbid, the uses of IS_IMMUTABLE and
 * IS_APPEND in fs/namei.c, fs/attr.c, fs/open.c, fs/xattr.c and fs/read_write.c.
 */
import type { Inode } from '../layers/layer.ts';
import type { UpperLayer } from '../layers/upper.ts';
import type { OverlayXattrs } from '../overlay/xattrs.ts';
import { isDirectory, isRegular } from '../sys/stat.ts';
import type { UpperNode } from './node.ts';

/** Bits of Inode.protection, as in FS_IOC_GETFLAGS and statx(2). Source: linux/fs.h, linux/stat.h. */
export const IMMUTABLE = 0x10;
export const APPEND_ONLY = 0x20;
const BITS: ReadonlyMap<number, number> = new Map([
  ['a'.charCodeAt(0), APPEND_ONLY],
  ['i'.charCodeAt(0), IMMUTABLE],
]);
/** The bits in the first byte of what each ioctl reads and writes. Source: linux/fs.h. */
const SHOWN = {
  flags: { [IMMUTABLE]: 0x10, [APPEND_ONLY]: 0x20 },
  fsxattr: { [IMMUTABLE]: 0x8, [APPEND_ONLY]: 0x10 },
} as const;
/** What an ioctl reads and writes: the flags of chattr(1), or struct fsxattr. */
export type FlagsKind = keyof typeof SHOWN;

/**
 * The flags of an object that a lookup found just now. An xattr with an unknown letter means nothing, as in the kernel.
 * Costs a system call only if the lookup did not list the xattrs of the object, or found this one among them.
 */
export function protectionOf(layer: UpperLayer, { protattr }: OverlayXattrs, found: Inode): number {
  if (!found.layer.isUpper) return found.protection ?? 0;
  if (!(isRegular(found.mode) || isDirectory(found.mode)) || !layer.mayHave(found, protattr)) return 0;
  let protection = 0;
  for (const letter of layer.getxattr(found, protattr) ?? []) {
    const bit = BITS.get(letter);
    if (bit === undefined) return 0;
    protection |= bit;
  }
  return protection;
}

/** The value of the xattr. */
export function protattrOf(protection: number): Uint8Array {
  return Uint8Array.from([...BITS].filter(([, bit]) => (protection & bit) !== 0).map(([letter]) => letter));
}

/** The reply to an ioctl, with the flags of the node in it. */
export function withProtection({ protection }: UpperNode, kind: FlagsKind, value: Uint8Array): Uint8Array {
  if (protection !== 0) value[0] = (value[0] as number) | shownBits(kind, protection);
  return value;
}

/** The flags in what an ioctl sets. */
export const protectionIn = (kind: FlagsKind, value: Uint8Array): number =>
  [IMMUTABLE, APPEND_ONLY].reduce(
    (bits, bit) => bits | (((value[0] as number) & shownBits(kind, bit)) !== 0 ? bit : 0),
    0,
  );

/** The same without these flags. */
export function withoutProtection(kind: FlagsKind, value: Uint8Array): Uint8Array {
  const others = value.slice();
  others[0] = (value[0] as number) & ~shownBits(kind, IMMUTABLE | APPEND_ONLY);
  return others;
}

function shownBits(kind: FlagsKind, protection: number): number {
  const { [IMMUTABLE]: immutable, [APPEND_ONLY]: append } = SHOWN[kind];
  return (protection & IMMUTABLE ? immutable : 0) | (protection & APPEND_ONLY ? append : 0);
}

/** Whether a directory may get a name. Source: may_create. */
export const mayAdd = ({ protection }: UpperNode): boolean => (protection & IMMUTABLE) === 0;

/** Whether a directory may lose a name that leads to a node. Source: may_delete. */
export const mayRemove = (directory: UpperNode, node: UpperNode): boolean =>
  directory.protection === 0 && node.protection === 0;
