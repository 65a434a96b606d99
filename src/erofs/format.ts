/**
 * The on-disk layout of EROFS, as far as composefs images and uncompressed images use it. All integers are little endian.
 * Each table holds byte offsets from the start of its structure and ends with its SIZE.
 * Source: Linux fs/erofs/erofs_fs.h (6.18) and Documentation/filesystems/erofs.rst; composefs lcfs-erofs.h.
 *
 * ```
 * 0       composefs header (32 bytes), otherwise boot code
 * 1024    superblock (128 bytes, then sb_extslots * 16)
 * meta    at block meta_blkaddr: inode slots of 32 bytes; the inode of nid N is at meta + N * 32
 *           inode (32 or 64) | inline xattrs (4-byte aligned) | chunk map, or the tail of the data
 * shared  at block xattr_blkaddr: shared xattr entries; the entry of id I is at shared + I * 4
 * ```
 */

/** The offset of the superblock in an image. */
export const SUPER_AT = 1024;
/** The magic number; also f_type of statfs(2). */
export const SUPER_MAGIC = 0xe0f5e1e2;
/** Block sizes are powers of two from 512 to 65,536 bytes. */
export const BLOCK_BITS_MIN = 9;
export const BLOCK_BITS_MAX = 16;

/** struct erofs_super_block. */
export const SuperBlock = {
  magic: 0, // u32  SUPER_MAGIC
  checksum: 4, // u32  CRC-32C, with COMPAT_SB_CHKSUM
  feature_compat: 8, // u32  COMPAT_* bits
  blkszbits: 12, // u8   log2 of the block size
  sb_extslots: 13, // u8   16-byte slots after the first 128 bytes
  rootnid_2b: 14, // u16  nid of the root; blocks_hi with INCOMPAT_48BIT
  inos: 16, // u64  number of inodes
  epoch: 24, // i64  seconds; the mtime of a compact inode is relative to it
  fixed_nsec: 32, // u32  nanoseconds of every compact inode's mtime
  blocks_lo: 36, // u32  blocks of the image
  meta_blkaddr: 40, // u32  block of nid 0
  xattr_blkaddr: 44, // u32  block where shared xattrs start
  uuid: 48, // u8[16]
  volume_name: 64, // u8[16]
  feature_incompat: 80, // u32  INCOMPAT_* bits
  available_compr_algs: 84, // u16  or lz4_max_distance
  extra_devices: 86, // u16  devices besides this image
  devt_slotoff: 88, // u16  first device slot, in units of DeviceSlot.SIZE
  dirblkbits: 90, // u8   log2 of directory block over block; 0
  xattr_prefix_count: 91, // u8   number of long xattr name prefixes
  xattr_prefix_start: 92, // u32  start of the long prefixes, in units of 4 bytes
  packed_nid: 96, // u64  the inode that holds fragments, and the prefixes unless COMPAT_PLAIN_XATTR_PFX
  xattr_filter_reserved: 104, // u8
  build_time: 108, // u32  seconds to add to epoch for the time of building
  rootnid_8b: 112, // u64  nid of the root, with INCOMPAT_48BIT
  metabox_nid: 128, // u64  with INCOMPAT_METABOX; in the first extension slot
  SIZE: 128,
} as const;

/** feature_compat: bits that a reader may ignore if it does not know them. */
export const COMPAT_SB_CHKSUM = 0x1;
export const COMPAT_MTIME = 0x2;
export const COMPAT_XATTR_FILTER = 0x4;
export const COMPAT_SHARED_EA_IN_METABOX = 0x8;
export const COMPAT_PLAIN_XATTR_PFX = 0x10;

/** feature_incompat: bits that a reader must know. Two bits have two names each. */
export const INCOMPAT_ZERO_PADDING = 0x1;
export const INCOMPAT_COMPR_CFGS = 0x2; // also big pclusters
export const INCOMPAT_CHUNKED_FILE = 0x4;
export const INCOMPAT_DEVICE_TABLE = 0x8; // also a second compression algorithm
export const INCOMPAT_ZTAILPACKING = 0x10;
export const INCOMPAT_FRAGMENTS = 0x20; // also dedupe
export const INCOMPAT_XATTR_PREFIXES = 0x40;
export const INCOMPAT_48BIT = 0x80;
export const INCOMPAT_METABOX = 0x100;

/** Names of the incompatible features by bit, for messages. */
export const INCOMPAT_NAMES: ReadonlyMap<number, string> = new Map([
  [INCOMPAT_ZERO_PADDING, 'zero_padding'],
  [INCOMPAT_COMPR_CFGS, 'compr_cfgs'],
  [INCOMPAT_CHUNKED_FILE, 'chunked_file'],
  [INCOMPAT_DEVICE_TABLE, 'device_table'],
  [INCOMPAT_ZTAILPACKING, 'ztailpacking'],
  [INCOMPAT_FRAGMENTS, 'fragments'],
  [INCOMPAT_XATTR_PREFIXES, 'xattr_prefixes'],
  [INCOMPAT_48BIT, '48bit'],
  [INCOMPAT_METABOX, 'metabox'],
]);

/**
 * The features that this reader accepts. The compression bits are among them because they only concern the data of compressed
 * inodes. Such inodes are refused one by one, so the image can still be listed.
 */
export const INCOMPAT_SUPPORTED =
  INCOMPAT_ZERO_PADDING |
  INCOMPAT_COMPR_CFGS |
  INCOMPAT_CHUNKED_FILE |
  INCOMPAT_DEVICE_TABLE |
  INCOMPAT_ZTAILPACKING |
  INCOMPAT_FRAGMENTS |
  INCOMPAT_XATTR_PREFIXES |
  INCOMPAT_48BIT;

/** struct erofs_deviceslot: one extra device. */
export const DeviceSlot = {
  tag: 0, // u8[64]  a digest or a name
  blocks_lo: 64, // u32
  uniaddr_lo: 68, // u32  its first block in the address space of all devices
  blocks_hi: 72, // u32
  uniaddr_hi: 76, // u16
  SIZE: 128,
} as const;

/** The size of an inode slot, which is the unit of nids. */
export const SLOT_BYTES = 32;

/** struct erofs_inode_compact. */
export const InodeCompact = {
  i_format: 0, // u16  bit 0 version, bits 1 to 3 data layout, bit 4 FORMAT_NLINK_1
  i_xattr_icount: 2, // u16  inline xattr area: 0, or XattrHeader.SIZE + (n - 1) * 4 bytes
  i_mode: 4, // u16
  i_nlink: 6, // u16  with FORMAT_NLINK_1: bits 32 to 47 of the first block's number
  i_size: 8, // u32
  i_mtime: 12, // u32  seconds after the superblock's epoch
  i_u: 16, // u32  start block, device number, compressed blocks or ChunkInfo, by type and layout
  i_ino: 20, // u32  a serial number; not what stat shows
  i_uid: 24, // u16
  i_gid: 26, // u16
  SIZE: 32,
} as const;

/** struct erofs_inode_extended. The first 8 bytes and i_u mean the same in both forms. */
export const InodeExtended = {
  i_format: 0, // u16
  i_xattr_icount: 2, // u16
  i_mode: 4, // u16
  startblk_hi: 6, // u16  bits 32 to 47 of the first block's number
  i_size: 8, // u64
  i_u: 16, // u32
  i_ino: 20, // u32
  i_uid: 24, // u32
  i_gid: 28, // u32
  i_mtime: 32, // i64  seconds since 1970
  i_mtime_nsec: 40, // u32
  i_nlink: 44, // u32
  SIZE: 64,
} as const;

export const FORMAT_EXTENDED = 0x1;
export const FORMAT_LAYOUT_SHIFT = 1;
export const FORMAT_LAYOUT_MASK = 0x7;
/** In a compact inode that is no directory: nlink is 1. In a directory, the same bit means that the dirent `.` is left out. */
export const FORMAT_NLINK_1 = 0x10;
/** Every bit of i_format that has a meaning. */
export const FORMAT_ALL = 0x1f;

/** Data layouts: how an inode's data is stored. */
export const LAYOUT_FLAT_PLAIN = 0; // i_u: first block; all data in blocks
export const LAYOUT_COMPRESSED_FULL = 1;
export const LAYOUT_FLAT_INLINE = 2; // i_u: first block; the last block of the data is stored after the inode
export const LAYOUT_COMPRESSED_COMPACT = 3;
export const LAYOUT_CHUNK_BASED = 4; // i_u: ChunkInfo; a table of chunks after the inode

/** struct erofs_inode_chunk_info, in i_u. */
export const ChunkInfo = {
  format: 0, // u16  CHUNK_* bits
  SIZE: 4,
} as const;

/** Low bits of the format: log2 of chunk size over block size. */
export const CHUNK_BITS_MASK = 0x1f;
/** Whether the table holds ChunkIndex structures instead of 4-byte block numbers. */
export const CHUNK_INDEXES = 0x20;
/** Whether block numbers have 48 bits; only with INCOMPAT_48BIT. */
export const CHUNK_48BIT = 0x40;

/** Size of a block map entry: one u32 block number for each chunk. */
export const BLOCK_MAP_BYTES = 4;

/** struct erofs_inode_chunk_index. The table is aligned to 8 bytes. */
export const ChunkIndex = {
  startblk_hi: 0, // u16  bits 32 to 47, with CHUNK_48BIT
  device_id: 2, // u16  0: this image
  startblk_lo: 4, // u32
  SIZE: 8,
} as const;

/** The block number of a hole, in block maps, chunk indexes and i_u. Where numbers have 48 bits, all 48 are set. */
export const NULL_ADDR = 0xffffffff;
export const NULL_ADDR_HIGH = 0xffff;

/**
 * struct erofs_dirent. A directory is a sequence of blocks. Each block starts with its dirents, sorted by the bytes of their
 * names, and the names follow in the same order.
 * The first nameoff divided by SIZE is the number of dirents. The last name ends at a NUL or at the end of the block.
 */
export const Dirent = {
  nid: 0, // u64
  nameoff: 8, // u16  from the start of the block
  file_type: 10, // u8  FT_*
  SIZE: 12,
} as const;
export const NAME_MAX = 255;

/** File types in dirents: the generic FT_* of linux/fs_types.h. */
export const FT_UNKNOWN = 0;
export const FT_REG_FILE = 1;
export const FT_DIR = 2;
export const FT_CHRDEV = 3;
export const FT_BLKDEV = 4;
export const FT_FIFO = 5;
export const FT_SOCK = 6;
export const FT_SYMLINK = 7;

/** struct erofs_xattr_ibody_header: right after an inode whose i_xattr_icount is not 0. */
export const XattrHeader = {
  h_name_filter: 0, // u32  a set bit means that no name has this hash. Only with COMPAT_XATTR_FILTER
  h_shared_count: 4, // u8   that many u32 ids of shared xattrs follow the header, then the inline entries
  SIZE: 12,
} as const;
export const SHARED_ID_BYTES = 4;

/** struct erofs_xattr_entry, inline and shared. Name and value follow, and the next entry is aligned to 4 bytes. */
export const XattrEntry = {
  e_name_len: 0, // u8   length of the name without the prefix
  e_name_index: 1, // u8   XATTR_INDEX_*, or XATTR_LONG_PREFIX | number of a long prefix
  e_value_size: 2, // u16
  SIZE: 4,
} as const;
export const XATTR_ALIGN = 4;

export const XATTR_INDEX_USER = 1;
export const XATTR_INDEX_POSIX_ACL_ACCESS = 2;
export const XATTR_INDEX_POSIX_ACL_DEFAULT = 3;
export const XATTR_INDEX_TRUSTED = 4;
export const XATTR_INDEX_LUSTRE = 5;
export const XATTR_INDEX_SECURITY = 6;
export const XATTR_LONG_PREFIX = 0x80;
export const XATTR_LONG_PREFIX_MASK = 0x7f;

/** The prefix for each name index; the stored name follows it. Index 0 has no prefix: the stored name is complete. */
export const XATTR_PREFIXES: readonly string[] = [
  '',
  'user.',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'trusted.',
  'lustre.',
  'security.',
];

/** The seed of the name filter: xxh32(name without prefix, XATTR_FILTER_SEED + index) & 31 is the number of the bit. */
export const XATTR_FILTER_SEED = 0x25bbe08f;
export const XATTR_FILTER_DEFAULT = 0xffffffff;

/**
 * A long name prefix: u16 length of the rest, then struct erofs_xattr_long_prefix. Records are aligned to 4 bytes.
 * The prefix is the text of the base index, then the infix.
 */
export const XattrLongPrefix = {
  length: 0, // u16  bytes of base_index and infix
  base_index: 2, // u8
  infix: 3, // u8[length - 1]
} as const;

/** struct lcfs_erofs_header_s, at the start of a composefs image. */
export const ComposefsHeader = {
  magic: 0, // u32  COMPOSEFS_MAGIC
  version: 4, // u32  version of this header: 1
  flags: 8, // u32  COMPOSEFS_HAS_ACL
  composefs_version: 12, // u32  version of the rules by which the image was made: 0 or 1
  SIZE: 32,
} as const;
export const COMPOSEFS_MAGIC = 0xd078629a;
export const COMPOSEFS_HEADER_VERSION = 1;
/** Some file has a POSIX ACL. Without this flag, the image may be mounted with noacl. */
export const COMPOSEFS_HAS_ACL = 0x1;

/** The number of an inode slot: its offset from the start of the metadata area, in units of 32 bytes. */
export type Nid = number & { readonly nid: unique symbol };
