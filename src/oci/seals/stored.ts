/** The seals that a repository has, and whether one of them vouches for an image. */
import { type KeyFile, readKeys } from '../../seal/keys.ts';
import { SIGNATURE_BYTES_MAX } from '../../seal/signature.ts';
import { findVoucher, labelled, type Voucher } from '../../seal/verify.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EACCES, EFBIG, ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { DOCUMENT_BYTES_MAX } from '../documents.ts';
import type { StoredImage } from '../stored/images.ts';
import { taggedManifest } from '../stored/names.ts';
import { readRecorded } from '../stored/oci-image.ts';
import { StoredRepository } from '../stored/repository.ts';
import { blobStream, manifestStream, REFERRERS } from '../streams/names.ts';
import { ARTIFACT_BYTES_MAX, readArtifact, type SealEntry } from './artifact.ts';
import { type InlineEntry, readInline } from './inline.ts';

const STREAMS = 'streams';
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** What may be wrong with a seal that is of no concern. */
const OTHERS: readonly number[] = [EACCES, EFBIG, ENOENT, EUCLEAN];

/** An artifact as the repository names it. */
interface StoredSeal {
  readonly digest: string;
  /** The digest of the manifest that it belongs to. */
  readonly subject: string;
}

/**
 * Finds the key that has signed the digest of an image in one of the seals that its repository has. The bytes of the image are not
 * looked at. Throws ErrnoError: EACCES if no key that counts has signed it, with each artifact of the image and each key that was
 * tried; as readKeys does.
 */
export function verifyStored(image: StoredImage, directories?: readonly ByteString[]): Voucher {
  const keys = readKeys(directories);
  const repository = new StoredRepository(image.store);
  try {
    const own = taggedManifest(repository, image.name);
    const reasons: string[] = [];
    for (const verify of waysToVerify(repository, image, own, { keys, directories })) {
      try {
        const voucher = verify();
        if (voucher !== undefined) return voucher;
      } catch (error) {
        if (!(error instanceof ErrnoError)) throw error;
        reasons.push(error.message);
      }
    }
    if (reasons.length > 0) throw new ErrnoError(EACCES, [...new Set(reasons)].join('\n'));
    const { name, digest, store } = image;
    throw new ErrnoError(
      EACCES,
      `${printable(name)}: ${printable(store)} has no seal of its digest ${labelled(digest)}`,
    );
  } finally {
    repository.close();
  }
}

/** Compares the bytes of an image with its digest. Throws ErrnoError with its path: EUCLEAN if it is damaged. */
export function checkStored({ store, digest }: StoredImage): void {
  const repository = new StoredRepository(store);
  try {
    const file = repository.openObject(digest);
    try {
      repository.checkObject(file, digest);
    } finally {
      file.close();
    }
  } finally {
    repository.close();
  }
}

interface Keys {
  readonly keys: readonly KeyFile[];
  readonly directories: readonly ByteString[] | undefined;
}

/** All that may be a seal: what the image's own manifest has first, and its artifacts, and then those of others. @param own its digest */
function* waysToVerify(
  repository: StoredRepository,
  image: StoredImage,
  own: string | undefined,
  keys: Keys,
): Generator<() => Voucher | undefined> {
  if (own !== undefined) yield () => verifyInline(repository, image, own, true, keys);
  for (const seal of sealsIn(repository, own))
    yield () => verifySeal(repository, image, seal, seal.subject === own, keys);
  for (const manifest of manifestsIn(repository))
    if (manifest !== own) yield () => verifyInline(repository, image, manifest, false, keys);
}

/** All artifacts, those of one subject first: images of other manifests may have the same digest. */
function* sealsIn(repository: StoredRepository, first: string | undefined): Generator<StoredSeal> {
  const directory = `${STREAMS}/${REFERRERS}`;
  const subjects = repository.entries(directory).map(([name]) => name);
  for (const subject of [...(first === undefined ? [] : [first]), ...subjects.filter(name => name !== first)])
    if (DIGEST.test(subject))
      for (const [digest] of repository.entries(`${directory}/${subject}`))
        if (DIGEST.test(digest)) yield { digest, subject };
}

/** @param isOwn whether the seal is of the image that the name has: what is wrong with others is not told */
function verifySeal(
  repository: StoredRepository,
  { name, digest }: StoredImage,
  seal: StoredSeal,
  isOwn: boolean,
  { keys, directories }: Keys,
): Voucher | undefined {
  const entry = entryFor(repository, digest, seal, isOwn);
  if (entry === undefined) return undefined;
  const names = { image: printable(name), signature: `artifact ${seal.digest}`, directories };
  const path = `${STREAMS}/${blobStream(entry.signature.digest)}`;
  return findVoucher(
    names,
    readRecorded(repository, path, entry.signature.digest, SIGNATURE_BYTES_MAX),
    [digest],
    keys,
  );
}

function* manifestsIn(repository: StoredRepository): Generator<string> {
  for (const [name] of repository.entries(STREAMS)) {
    const digest = name.slice(MANIFEST_STREAM.length);
    if (name.startsWith(MANIFEST_STREAM) && DIGEST.test(digest)) yield digest;
  }
}
const MANIFEST_STREAM = manifestStream('');

/** @param isOwn whether the manifest is that of the image's name: what is wrong with others is not told */
function verifyInline(
  repository: StoredRepository,
  { name, digest }: StoredImage,
  manifest: string,
  isOwn: boolean,
  { keys, directories }: Keys,
): Voucher | undefined {
  const what = `manifest ${manifest}`;
  const images = ignoring(isOwn, () => imagesNamed(repository, manifest, what)) ?? [];
  const found = images.find(entry => entry.digest === digest);
  const refuse = (why: string): undefined => {
    if (isOwn) throw new ErrnoError(EACCES, `${what}: ${why}`);
  };
  if (images.length === 0) return undefined;
  if (found === undefined)
    return refuse(`names other images: ${images.map(entry => `${entry.role} ${labelled(entry.digest)}`).join(', ')}`);
  if (found.signature === undefined) return refuse('names this digest, but has no signature of it');
  return findVoucher({ image: printable(name), signature: what, directories }, found.signature, [digest], keys);
}

/** The merged images that a manifest names. */
function imagesNamed(repository: StoredRepository, manifest: string, what: string): InlineEntry[] {
  const path = `${STREAMS}/${manifestStream(manifest)}`;
  const { entries } = readInline(readRecorded(repository, path, manifest, DOCUMENT_BYTES_MAX), what);
  return entries.filter(({ role }) => role !== 'config');
}

/** The result of an action; undefined if something is wrong that is of no concern. @param isOwn whether all is of concern */
function ignoring<T>(isOwn: boolean, action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (isOwn || !(error instanceof ErrnoError) || !OTHERS.includes(error.errno)) throw error;
    return undefined;
  }
}

/** What a seal has about an image; undefined, or an error with the reason, if it is about another one. */
function entryFor(
  repository: StoredRepository,
  digest: string,
  { digest: artifact, subject }: StoredSeal,
  isOwn: boolean,
): SealEntry | undefined {
  const refuse = (why: string): never => {
    throw new ErrnoError(EACCES, `artifact ${artifact}: ${why}`);
  };
  return ignoring(isOwn, () => {
    const bytes = readRecorded(repository, `${STREAMS}/${manifestStream(artifact)}`, artifact, ARTIFACT_BYTES_MAX);
    const entries = readArtifact(bytes, subject, `artifact ${artifact}`) ?? refuse('its subject is another manifest');
    const images = entries.filter(({ role }) => role.startsWith('merged'));
    const found = images.find(entry => entry.digest === digest);
    if (found === undefined)
      refuse(`is about other images: ${images.map(entry => `${entry.role} ${labelled(entry.digest)}`).join(', ')}`);
    return found;
  });
}
