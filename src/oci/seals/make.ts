/** Makes the seal of an image: signatures of its manifest, its configuration and its composefs image. */
import * as v from 'valibot';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { type Algorithm, algorithmOfHex } from '../../verity/algorithms.ts';
import { measureHex } from '../../verity/digest.ts';
import { sha256Of } from '../blobs.ts';
import { type Descriptor, parse } from '../documents.ts';
import type { OpenImage } from '../image.ts';
import { EMPTY_CONFIG, MANIFEST_TYPE, type Seal, type SealEntry, writeArtifact } from './artifact.ts';
import { writeInline } from './inline.ts';

/** Makes a detached signature of a digest in hex. */
export type Sign = (digest: string) => Uint8Array;

/** Seals an image by an artifact. Throws ErrnoError EINVAL for one without a manifest. @param merged the digest of its composefs image, in hex */
export function makeSeal(image: OpenImage, merged: string, sign: Sign): Seal {
  const digests = { ...digestsOf(image, algorithmOfHex(merged) as Algorithm), merged };
  const roles = ['manifest', 'config', 'merged'] as const;
  const signatures = roles.map(role => sign(digests[role]));
  const entries = roles.map((role, i): SealEntry => {
    return { role, digest: digests[role], signature: leadingTo(signatures[i] as Uint8Array) };
  });
  const bytes = writeArtifact(subjectOf(image), leadingTo(EMPTY_CONFIG), entries);
  return { digest: sha256Of(bytes), bytes, entries, signatures };
}

const leadingTo = (bytes: Uint8Array): Descriptor => ({ digest: sha256Of(bytes), size: bytes.length });

const Typed = v.object({ mediaType: v.string() });

/** What leads to the manifest, with the type that it says it has. */
function subjectOf(image: OpenImage): Descriptor {
  const { digest, bytes } = manifestOf(image);
  const { success, output } = v.safeParse(Typed, parse(bytes, image.source.shown));
  return { digest, size: bytes.length, ...(success && { mediaType: output.mediaType }) };
}

function manifestOf({ manifest: digest, manifestBytes: bytes, source }: OpenImage): {
  digest: string;
  bytes: Uint8Array;
} {
  if (digest !== undefined && bytes !== undefined) return { digest, bytes };
  throw new ErrnoError(EINVAL, `${source.shown}: has no manifest that could be sealed`);
}

/** The fs-verity digests of an image's documents, in hex. */
export function digestsOf(image: OpenImage, algorithm: Algorithm): { manifest: string; config: string } {
  const measure = (bytes: Uint8Array): string => measureHex(bytes, algorithm);
  return { manifest: measure(manifestOf(image).bytes), config: measure(image.configBytes) };
}

/** The manifest of an image, sealed by its own annotations. Throws ErrnoError EINVAL for one that cannot have any. @param merged as of makeSeal */
export function sealManifest(image: OpenImage, merged: string, sign: Sign): Uint8Array {
  const { shown } = image.source;
  const { bytes } = manifestOf(image);
  const { mediaType } = subjectOf(image);
  if (mediaType !== undefined && mediaType !== MANIFEST_TYPE)
    throw new ErrnoError(EINVAL, `${shown}: its manifest is ${mediaType}, which has no annotations`);
  const { config } = digestsOf(image, algorithmOfHex(merged) as Algorithm);
  const entries = [
    { role: 'config', digest: config, signature: sign(config) },
    { role: 'merged', digest: merged, signature: sign(merged) },
  ] as const;
  return writeInline(bytes, entries, shown);
}
