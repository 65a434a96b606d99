/** Seals of images in OCI layouts: artifacts that the index lists. */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { type KeyFile, readKeys } from '../../seal/keys.ts';
import { findVoucher, labelled, type Voucher } from '../../seal/verify.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { EACCES, EINVAL, ErrnoError, EUCLEAN, systemError } from '../../sys/errno.ts';
import { writeAll } from '../../sys/streams.ts';
import { type Algorithm, algorithmOfHex, parametersOf } from '../../verity/algorithms.ts';
import { measureBytes } from '../../verity/digest.ts';
import { sha256Of } from '../blobs.ts';
import { checked, Descriptor, parse } from '../documents.ts';
import type { OpenImage } from '../image.ts';
import { ARTIFACT_TYPE, artifactDescriptor, EMPTY_CONFIG, type SealEntry, writeArtifact } from './artifact.ts';
import { type FoundSeal, findSeals } from './found.ts';

const INDEX = 'index.json';
/** With all that is in it, because it is written again. */
const Index = v.looseObject({ manifests: v.array(v.looseObject(Descriptor.entries)) });

/** Makes a detached signature of a digest in hex. */
export type Sign = (digest: string) => Uint8Array;

/**
 * Seals an image of a layout by an artifact. Throws ErrnoError with the path.
 * @param layout the directory
 * @param merged the digest of its composefs image, in hex
 * @returns the digest of the artifact
 */
export async function sealInLayout(layout: ByteString, image: OpenImage, merged: string, sign: Sign): Promise<string> {
  const { digest: subject, bytes: manifest } = manifestOf(image);
  const digests = { ...digestsOf(image, algorithmOfHex(merged) as Algorithm), merged };
  const entries = (['manifest', 'config', 'merged'] as const).map((role): SealEntry => {
    return { role, digest: digests[role], signature: writeBlob(layout, sign(digests[role])) };
  });
  const config = writeBlob(layout, EMPTY_CONFIG);
  const { digest, size } = writeBlob(
    layout,
    writeArtifact({ digest: subject, size: manifest.length }, config, entries),
  );
  const index = await readIndex(image);
  if (index.manifests.some(known => known.digest === digest)) return digest;
  const manifests = [...index.manifests, artifactDescriptor(digest, size)];
  writeFile(`${layout}/${INDEX}`, Buffer.from(JSON.stringify({ ...index, manifests })));
  return digest;
}

/**
 * Finds the digest of an image's merged tree for which a known key vouches, as it does for its manifest and its configuration. The
 * merged tree itself is not looked at. Throws ErrnoError: EACCES if there is no seal by a key that counts, with a line for each
 * reason; as readKeys does.
 */
export async function verifyInLayout(image: OpenImage, directories?: readonly ByteString[]): Promise<Voucher> {
  const { shown } = image.source;
  const keys = readKeys(directories);
  const { seals, faults } = await findSeals(image);
  const reasons = [...faults];
  for (const seal of seals) {
    try {
      return verifySeal(image, seal, keys, directories);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      reasons.push(error.message);
    }
  }
  const none = `${shown}: no seal: no artifact of type ${ARTIFACT_TYPE} has the manifest ${image.manifest} as its subject`;
  throw new ErrnoError(EACCES, reasons.length > 0 ? reasons.join('\n') : none);
}

function verifySeal(
  image: OpenImage,
  { entries, signatures }: FoundSeal,
  keys: readonly KeyFile[],
  directories: readonly ByteString[] | undefined,
): Voucher {
  const { shown } = image.source;
  const own = digestsOf(image, algorithmOfHex(entries[0]?.digest ?? '') as Algorithm);
  let merged: Voucher | undefined;
  for (const [i, { role, digest, signature }] of entries.entries()) {
    const names = { image: `${shown}: its ${role}`, signature: `${shown}/${inLayout(signature.digest)}`, directories };
    if ((role === 'manifest' || role === 'config') && own[role] !== digest)
      throw new ErrnoError(EUCLEAN, `${names.image} has the digest ${labelled(own[role])}, but the seal ${digest}`);
    const voucher = findVoucher(names, signatures[i] as Uint8Array, [digest], keys);
    if (role === 'merged') merged = voucher;
  }
  return merged as Voucher; // readArtifact has found it
}

function manifestOf({ manifest: digest, manifestBytes: bytes, source }: OpenImage): {
  digest: string;
  bytes: Uint8Array;
} {
  if (digest !== undefined && bytes !== undefined) return { digest, bytes };
  throw new ErrnoError(EINVAL, `${source.shown}: has no manifest that could be sealed`);
}

/** The fs-verity digests of an image's documents, in hex. */
function digestsOf(image: OpenImage, algorithm: Algorithm): { manifest: string; config: string } {
  const measure = (bytes: Uint8Array): string =>
    Buffer.from(measureBytes(bytes, parametersOf(algorithm))).toString('hex');
  return { manifest: measure(manifestOf(image).bytes), config: measure(image.configBytes) };
}

async function readIndex({ source }: OpenImage): Promise<v.InferOutput<typeof Index>> {
  const shown = `${source.shown}/${INDEX}`;
  return checked(Index, parse(await source.document(INDEX), shown), shown);
}

const inLayout = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

function writeBlob(layout: ByteString, bytes: Uint8Array): Descriptor {
  const digest = sha256Of(bytes);
  writeFile(`${layout}/${inLayout(digest)}`, bytes);
  return { digest, size: bytes.length };
}

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
