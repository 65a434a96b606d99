/**
 * Splitstreams of composefs-rs: a file, such as a tar archive, cut into parts that the stream holds and parts that are objects of
 * a repository, so that both together give the file bit for bit.
 *
 * ```
 * header | info | digests of streams | digests of objects | names (zstd) | chunks (zstd)
 * ```
 * The header leads to the info, which leads to the other sections, wherever they are. The names, `INDEX:NAME` with a NUL after each,
 * are those of streams. A chunk begins with a number of 64 bits: -N, and N bytes follow; or the index of an object, which is that
 * part of the file.
 * Sources: composefs-rs, doc/splitstream.md, and crates/composefs/src/splitstream.rs.
 */

export const MAGIC = 'SplitStream';
export const VERSION = 0;
/** The base-2 logarithm of the blocks of fs-verity. */
export const BLOCK_BITS = 12;

/** A section: offsets in the file, each a u64. */
export const Section = { start: 0, end: 8, SIZE: 16 } as const;

/** The header, at the start of the file. */
export const Header = {
  magic: 0, // 11 bytes
  version: 11, // u8
  flags: 12, // u16, ignored
  algorithm: 14, // u8   of fs-verity: 1 SHA-256, 2 SHA-512
  blockBits: 15, // u8
  info: 16, // Section
  SIZE: 32,
} as const;

/** The header as old versions of composefs-rs wrote it, those in bootc up to 1.15. */
export const OldHeader = {
  info: 0, // Section
  flags: 16, // u16, ignored
  magic: 18, // 11 bytes
  version: 29, // u8
  algorithm: 30, // u8
  blockBits: 31, // u8
  SIZE: 32,
} as const;

/** The info; a longer one has fields that are not known. */
export const Info = {
  streams: 0, // Section: digests, as bytes
  objects: 16, // Section: digests, as bytes
  chunks: 32, // Section
  names: 48, // Section
  contentType: 64, // u64
  fileBytes: 72, // u64  the size of the file, with all parts
  SIZE: 80,
} as const;

/** What a stream is about: the content types of composefs-rs, as bytes. */
export const CONTENT = {
  layer: 'ocilayer',
  config: 'ociconfg',
  manifest: 'ocimanif',
  blob: 'oci_blob',
} as const;
export type Content = keyof typeof CONTENT;
