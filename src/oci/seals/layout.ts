/** Seals of images in OCI layouts: artifacts that the index lists. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { systemError } from '../../sys/errno.ts';
import { writeAll } from '../../sys/streams.ts';
import type { OpenImage } from '../image.ts';
import { listed, readWholeIndex, type Seal, sealBlobs, type WholeIndex } from './artifact.ts';

const INDEX = 'index.json';

/** Adds the seal of an image to its layout. Throws ErrnoError with the path. @param layout the directory */
export async function addToLayout(layout: ByteString, image: OpenImage, seal: Seal): Promise<void> {
  for (const [digest, bytes] of sealBlobs(seal)) writeBlob(layout, digest, bytes);
  writeBlob(layout, seal.digest, seal.bytes);
  const index = listed(await readIndex(image), seal);
  if (index !== undefined) writeFile(`${layout}/${INDEX}`, index);
}

async function readIndex({ source }: OpenImage): Promise<WholeIndex> {
  return readWholeIndex(await source.document(INDEX), `${source.shown}/${INDEX}`);
}

const inLayout = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

const writeBlob = (layout: ByteString, digest: string, bytes: Uint8Array): void =>
  writeFile(`${layout}/${inLayout(digest)}`, bytes);

/** Writes a file completely, or not at all. Throws ErrnoError with its path. */
function writeFile(path: ByteString, bytes: Uint8Array): void {
  const temporary = bufferOf(`${path}.tmp-${randomBytes(6).toString('hex')}`);
  try {
    mkdirSync(bufferOf(dirname(path)), { recursive: true });
    const fd = openSync(temporary, 'wx', 0o644);
    try {
      writeAll(fd, bytes, printable(path));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, bufferOf(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw systemError(error, printable(path));
  }
}
