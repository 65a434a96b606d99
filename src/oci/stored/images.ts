/** Which image of a repository a name means. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError } from '../../sys/errno.ts';
import { imageNamed, imageOfDigest } from './image-links.ts';
import { countingManifest, namesOf } from './names.ts';
import { StoredRepository } from './repository.ts';

/** An image in a repository. */
export interface StoredImage {
  readonly store: ByteString;
  /** What it was looked up by. */
  readonly name: ByteString;
  /** Its fs-verity digest, in hex. */
  readonly digest: string;
}

/** The most names that a message has. */
const NAMES_MAX = 20;

/**
 * Finds an image by its tag or its name, whichever was made last, or else by its digest in hex. Throws ErrnoError with the path: EINVAL for another
 * directory; ENOENT, with the names that there are, for a name that is not there; EXDEV for a name that leads to something else than
 * an image of the repository; EUCLEAN for an image that is damaged.
 */
export async function findImage(store: ByteString, name: ByteString): Promise<StoredImage> {
  const repository = new StoredRepository(store);
  try {
    return { store, name, digest: await digestNamed(repository, name) };
  } finally {
    repository.close();
  }
}

/** The digest of the image that a name means. Throws ErrnoError as `findImage` does. */
export async function digestNamed(repository: StoredRepository, name: ByteString): Promise<string> {
  const manifest = countingManifest(repository, name);
  const digest =
    manifest === undefined
      ? (imageNamed(repository, name) ?? imageOfDigest(repository, name))
      : (await (await import('./oci-image.ts')).readOciImage(repository, manifest)).image;
  if (digest !== undefined) return digest;
  if (manifest === undefined) throw unknownName(repository, name);
  const shown = `${printable(repository.path)}: ${printable(name)}`;
  throw new ErrnoError(ENOENT, `${shown}: has no image of composefs yet; \`lowerdata pull\` makes it`);
}

/** The message for a name that is not there. */
export function unknownName(repository: StoredRepository, name: ByteString): ErrnoError {
  const names = namesOf(repository).map(printable);
  const more = names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more` : '';
  const list = `${names.slice(0, NAMES_MAX).join(', ') || 'none'}${more}`;
  return new ErrnoError(
    ENOENT,
    `${printable(repository.path)}: no image has the name ${printable(name)}; the names are: ${list}`,
  );
}
