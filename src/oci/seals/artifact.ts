/**
 * The artifact that seals an image: a manifest with a signature for each thing that is sealed, and the image's manifest as its
 * subject. Source: composefs-rs, "OCI Sealing Specification for Composefs"; OCI image-spec v1.1, "Guidelines for Artifact Usage".
 *
 * ```
 * artifactType   application/vnd.composefs.metadata.v1
 * subject        -> the image's manifest
 * layers         -> PKCS#7 of composefs.manifest.fsverity-sha256-12         = HEX
 *                -> PKCS#7 of composefs.config.fsverity-sha256-12           = HEX
 *                -> PKCS#7 of composefs.merged.erofs.v1.fsverity-sha256-12  = HEX
 * ```
 */
import * as v from 'valibot';
import { SIGNATURE_BYTES_MAX } from '../../seal/signature.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { type Algorithm, algorithmOfHex } from '../../verity/digest.ts';
import { sha256Of } from '../blobs.ts';
import { checked, Descriptor, parse } from '../documents.ts';

export const ARTIFACT_TYPE = 'application/vnd.composefs.metadata.v1';
export const SIGNATURE_TYPE = 'application/vnd.composefs.signature.v1+pkcs7';
export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';

/** The configuration of an artifact, and its digest. */
export const EMPTY_CONFIG: Uint8Array = Buffer.from('{}');
export const EMPTY_DIGEST = sha256Of(EMPTY_CONFIG);
/** The size of the largest artifact that is read; it has up to LAYERS_MAX descriptors. */
export const ARTIFACT_BYTES_MAX = 1 << 16;

/** What is sealed, in the order of the artifact: documents by their bytes, and images of the merged tree. */
export const ROLES = ['manifest', 'config', 'merged', 'merged.bootable'] as const;
export type Role = (typeof ROLES)[number];

/** What has to be there if anything is signed. */
const NEEDED: readonly Role[] = ['manifest', 'config', 'merged'];
const LAYERS_MAX = 16;

/** One thing that is sealed: its fs-verity digest in hex, and where the signature is. */
export interface SealEntry {
  readonly role: Role;
  readonly digest: string;
  readonly signature: Descriptor;
}

/** An artifact with its signatures. Sizes and digests are right; who has signed is another question. */
export interface Seal {
  /** The digest of the artifact. */
  readonly digest: string;
  readonly bytes: Uint8Array;
  readonly entries: readonly SealEntry[];
  /** Those of the entries, in order. */
  readonly signatures: readonly Uint8Array[];
}

/** The blobs that an artifact leads to, by their digests. */
export const sealBlobs = ({ entries, signatures }: Seal): readonly (readonly [digest: string, bytes: Uint8Array])[] => [
  ...entries.map(({ signature }, i) => [signature.digest, signatures[i] as Uint8Array] as const),
  [EMPTY_DIGEST, EMPTY_CONFIG],
];

/** The annotation that has the digest. Digests are without salt, of blocks of 4 KiB. */
export function annotationOf(role: Role | 'layer', algorithm: Algorithm): string {
  const format = role === 'manifest' || role === 'config' ? '' : '.erofs.v1';
  return `composefs.${role}${format}.fsverity-${algorithm}-12`;
}

/** The descriptors of an index that may lead to seals: those of their type, and those that do not say one. Throws ErrnoError EUCLEAN. */
export const artifactsIn = (index: Uint8Array, what: string): Descriptor[] =>
  checked(Index, parse(index, what), what).manifests.filter(
    ({ artifactType, platform }) => (artifactType ?? ARTIFACT_TYPE) === ARTIFACT_TYPE && !platform,
  );

const Index = v.object({ manifests: v.array(Descriptor) });

/** Whether a document has a subject, as artifacts have. Throws ErrnoError EUCLEAN. */
export const hasSubject = (bytes: Uint8Array, what: string): boolean =>
  v.is(v.object({ subject: v.object({}) }), parse(bytes, what));

/** The bytes of an artifact. @param subject what leads to the image's manifest @param config what leads to EMPTY_CONFIG */
export function writeArtifact(subject: Descriptor, config: Descriptor, entries: readonly SealEntry[]): Uint8Array {
  const blob = ({ digest, size }: Descriptor, mediaType: string) => ({ mediaType, digest, size });
  const layers = entries.map(({ role, digest, signature }) => ({
    ...blob(signature, SIGNATURE_TYPE),
    annotations: { [annotationOf(role, algorithmOfHex(digest) as Algorithm)]: digest },
  }));
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: ARTIFACT_TYPE,
      config: blob(config, EMPTY_TYPE),
      layers,
      subject: blob(subject, subject.mediaType ?? MANIFEST_TYPE),
    }),
  );
}

/** An index with all that is in it, because it is written again. */
const WholeIndex = v.looseObject({ manifests: v.array(v.looseObject(Descriptor.entries)) });
export type WholeIndex = v.InferOutput<typeof WholeIndex>;

/** Reads an index to write it again. Throws ErrnoError EUCLEAN. */
export function readWholeIndex(bytes: Uint8Array, what: string): WholeIndex {
  const index = parse(bytes, what);
  checked(WholeIndex, index, what); // what comes of the check has another order
  return index as WholeIndex;
}

/** The bytes of an index that lists an artifact, too; undefined if it does so already. */
export function listed(index: WholeIndex, { digest, bytes }: Seal): Uint8Array | undefined {
  if (index.manifests.some(known => known.digest === digest)) return undefined;
  const descriptor = { mediaType: MANIFEST_TYPE, digest, size: bytes.length, artifactType: ARTIFACT_TYPE };
  return Buffer.from(JSON.stringify({ ...index, manifests: [...index.manifests, descriptor] }));
}

const Artifact = v.object({
  artifactType: v.literal(ARTIFACT_TYPE, `is not ${ARTIFACT_TYPE}`),
  config: v.object({ digest: v.literal(EMPTY_DIGEST, 'is not that of the empty configuration') }),
  subject: Descriptor,
  layers: v.pipe(v.array(Descriptor), v.maxLength(LAYERS_MAX, `more than ${LAYERS_MAX}`)),
});

/**
 * Reads an artifact. Throws ErrnoError: EUCLEAN if it is damaged, lacks what the specification wants, or has digests by two algorithms;
 * EFBIG for a signature that is too large.
 * @param what the name of the document, for messages
 * @returns undefined if it is about another manifest than `subject`
 */
export function readArtifact(bytes: Uint8Array, subject: string, what: string): SealEntry[] | undefined {
  const artifact = checked(Artifact, parse(bytes, what), what);
  if (artifact.subject.digest !== subject) return undefined;
  const entries = artifact.layers.map((layer, i) => entryOf(layer, `${what}: layers.${i}`));
  const roles = entries.map(({ role }) => role);
  if (new Set(entries.map(({ digest }) => digest.length)).size > 1)
    throw new ErrnoError(EUCLEAN, `${what}: digests by more than one algorithm`);
  const missing = NEEDED.find(role => !roles.includes(role));
  if (missing !== undefined) throw new ErrnoError(EUCLEAN, `${what}: no signature of ${missing}`);
  if (ROLES.filter(role => roles.includes(role)).join() !== roles.join())
    throw new ErrnoError(EUCLEAN, `${what}: not in the order ${ROLES.join(', ')}`);
  return entries;
}

function entryOf(signature: Descriptor, what: string): SealEntry {
  if (signature.mediaType !== SIGNATURE_TYPE) throw new ErrnoError(EUCLEAN, `${what}: not of type ${SIGNATURE_TYPE}`);
  const found = Object.entries(signature.annotations ?? {}).filter(([key]) => key.startsWith('composefs.'));
  const [[key, digest] = ['', ''], ...others] = found;
  const algorithm = /^[0-9a-f]+$/.test(digest) ? algorithmOfHex(digest) : undefined;
  const role = algorithm && ROLES.find(known => annotationOf(known, algorithm) === key);
  if (role === undefined || others.length > 0)
    throw new ErrnoError(EUCLEAN, `${what}: no digest of ${ROLES.join(', ')}, or more than one`);
  if (signature.size > SIGNATURE_BYTES_MAX)
    throw new ErrnoError(EFBIG, `${what}: a signature of more than ${SIGNATURE_BYTES_MAX} bytes`);
  return { role, digest, signature };
}
