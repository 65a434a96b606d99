/** Makes an image of a client's tree, with the client's rights. Data is read for its digest, and goes nowhere. */
import { fstatSync } from 'node:fs';
import { scanTree } from '../../composefs/scan.ts';
import { stageTree } from '../../composefs/stage.ts';
import { setPayload } from '../../composefs/tree.ts';
import { writeStaged } from '../../composefs/write.ts';
import { digestFiles } from '../../store/file-pool.ts';
import { objectPath } from '../../store/objects.ts';
import { EFBIG, ErrnoError } from '../../sys/errno.ts';
import { writeAll } from '../../sys/streams.ts';
import { measureHex } from '../../verity/digest.ts';
import type { TreeOptions } from './orders.ts';
import { confineToReading } from './rights.ts';

const ENTRIES_MAX = 1_000_000;
const IMAGE_BYTES_MAX = 1 << 28;

/**
 * Writes the image that `lowerdata mkfs` makes of a directory without a store. @returns its digest; undefined if it is no directory
 * Throws ErrnoError with the path below the directory: EFBIG for too many objects or too large an image, and as scanTree and
 * digestFiles do.
 */
export async function makeTree(
  { algorithm, ...options }: TreeOptions,
  [tree = -1, output = -1]: readonly number[],
): Promise<string | undefined> {
  if (!fstatSync(tree).isDirectory()) return undefined;
  confineToReading(tree);
  process.chdir(`/proc/self/fd/${tree}`); // so that messages have paths below it
  const { root, files } = scanTree('.', { ...options, entriesMax: ENTRIES_MAX });
  await digestFiles(files, { threads: 0, ...(algorithm && { algorithm }) });
  for (const { inode } of files) setPayload(inode, objectPath(inode.digest as string));
  const bytes = writeStaged(stageTree(root, { minVersion: 0, maxVersion: 1 }));
  if (bytes.length > IMAGE_BYTES_MAX)
    throw new ErrnoError(EFBIG, `the image has ${bytes.length} bytes; ${IMAGE_BYTES_MAX} are allowed`);
  writeAll(output, bytes, 'the image');
  return measureHex(bytes, algorithm);
}
