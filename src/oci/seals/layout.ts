/** Seals of images in OCI layouts: artifacts that the index lists, and manifests that are sealed themselves. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError, systemError } from '../../sys/errno.ts';
import { writeAll } from '../../sys/streams.ts';
import { sha256Of } from '../blobs.ts';
import { type OpenImage, TAG } from '../image.ts';
import { listed, readWholeIndex, type Seal, sealBlobs, type WholeIndex } from './artifact.ts';

const INDEX = 'index.json';

/** Adds the seal of an image to its layout. Throws ErrnoError with the path. @param layout the directory */
export async function addToLayout(layout: ByteString, image: OpenImage, seal: Seal): Promise<void> {
  for (const [digest, bytes] of sealBlobs(seal)) writeBlob(layout, digest, bytes);
  writeBlob(layout, seal.digest, seal.bytes);
  const index = listed(await readIndex(image), seal);
  if (index !== undefined) writeFile(`${layout}/${INDEX}`, index);
}

/**
 * Puts another manifest in the place of an image's own in the index of its layout. The old one stays as a blob. Throws ErrnoError: EINVAL if
 * the index does not list the manifest itself.
 * @param tag only the entry with this tag; undefined: every entry that leads to the manifest
 * @returns the digest of the new manifest
 */
export async function replaceInLayout(
  layout: ByteString,
  image: OpenImage,
  tag: string | undefined,
  manifest: Uint8Array,
): Promise<string> {
  const digest = sha256Of(manifest);
  const index = await readIndex(image);
  const isOwn = (entry: WholeIndex['manifests'][number]): boolean =>
    entry.digest === image.manifest && (tag === undefined || entry.annotations?.[TAG] === tag);
  if (!index.manifests.some(isOwn))
    throw new ErrnoError(
      EINVAL,
      `${image.source.shown}: ${INDEX} leads to the manifest by another index, which names its digest: it cannot be changed alone`,
    );
  writeBlob(layout, digest, manifest);
  const manifests = index.manifests.map(entry => (isOwn(entry) ? { ...entry, digest, size: manifest.length } : entry));
  writeFile(`${layout}/${INDEX}`, Buffer.from(JSON.stringify({ ...index, manifests })));
  return digest;
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
