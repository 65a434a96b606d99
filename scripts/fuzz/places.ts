/** The positions and layouts of the structures in a valid image: the targets of `damageField`. */

import { extentAt } from '../../src/erofs/data.ts';
import { listDirents } from '../../src/erofs/dirents.ts';
import type { Nid } from '../../src/erofs/format.ts';
import {
  ChunkIndex,
  ComposefsHeader,
  Dirent,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  SLOT_BYTES,
  SUPER_AT,
  SuperBlock,
  XattrEntry,
  XattrHeader,
} from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import type { Image } from '../../src/erofs/superblock.ts';
import { listXattrs } from '../../src/erofs/xattrs.ts';
import { isDirectory } from '../../src/sys/stat.ts';
import type { Place } from './mutate.ts';

/** Every structure reachable from the root; important ones appear more than once. */
export function placesOf(bytes: Uint8Array): Place[] {
  const image = openImage(bytes);
  const places: Place[] = [{ at: 0, layout: ComposefsHeader }];
  for (let i = 0; i < 4; i++) places.push({ at: SUPER_AT, layout: SuperBlock });
  const seen = new Set<Nid>([image.rootNid]);
  for (const nid of seen) {
    const inode = new ImageInode(image, nid);
    places.push(...placesOfInode(image, inode));
    if (!isDirectory(inode.mode)) continue;
    places.push(...placesOfDirents(image, inode));
    listDirents(image, inode, (_, child) => seen.add(child));
  }
  return places;
}

function placesOfInode(image: Image, inode: ImageInode): Place[] {
  const at = image.metaAt + inode.nid * SLOT_BYTES;
  const isCompact = inode.xattrAt === at + InodeCompact.SIZE;
  const places: Place[] = [{ at, layout: isCompact ? InodeCompact : InodeExtended }];
  if (inode.xattrBytes > 0) places.push({ at: inode.xattrAt, layout: XattrHeader });
  listXattrs(image, inode, (_, entry) => places.push({ at: entry, layout: XattrEntry }));
  const dataAt = inode.xattrAt + inode.xattrBytes;
  if (inode.layout === LAYOUT_CHUNK_BASED) places.push({ at: Math.ceil(dataAt / 8) * 8, layout: ChunkIndex });
  return places;
}

function placesOfDirents(image: Image, directory: ImageInode): Place[] {
  const places: Place[] = [];
  const extent = { at: 0, length: 0 };
  for (let position = 0; position < directory.sizeBytes; position += image.blockBytes) {
    extentAt(image, directory, position, extent);
    const count = image.view.getUint16(extent.at + Dirent.nameoff, true) / Dirent.SIZE;
    for (let i = 0; i < count; i++) places.push({ at: extent.at + i * Dirent.SIZE, layout: Dirent });
  }
  return places;
}
