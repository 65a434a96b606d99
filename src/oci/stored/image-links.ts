/** The symlinks of a repository that are images, and those that are names of images. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError, EUCLEAN, EXDEV } from '../../sys/errno.ts';
import { pathOfObject, type StoredRepository } from './repository.ts';

export const IMAGES = 'images';
/** The directory of the names of images. */
export const IMAGE_REFS = 'images/refs';

/** The path of an image below its store: a symlink to the object. */
export const imagePath = (digest: string): ByteString => `${IMAGES}/${digest}`;

/** Whether text is the digest of an image, as a name may also be. */
export const isDigest = (text: ByteString): boolean => /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/.test(text);

/** The digest of the image that has a name in `images/refs`; undefined if none has. Throws ErrnoError as `findImage` does. */
export function imageNamed(repository: StoredRepository, name: ByteString): string | undefined {
  if (!isPath(name)) return undefined;
  const path = `${IMAGE_REFS}/${name}`;
  if (repository.isDirectory(path)) return undefined;
  const target = repository.target(path);
  if (target === undefined) return undefined;
  const [directory, digest = '', ...more] = target.split('/');
  const shown = repository.shown(path);
  if (directory !== IMAGES || !isDigest(digest) || more.length > 0)
    throw new ErrnoError(EXDEV, `${shown}: leads to ${printable(target)}, which is no image of the repository`);
  if (imageOfDigest(repository, digest) !== undefined) return digest;
  throw new ErrnoError(ENOENT, `${shown}: leads to ${printable(target)}, which does not exist`);
}

/** The digest, if the repository has an image of it. Throws ErrnoError EUCLEAN, with its path, for one that is damaged. */
export function imageOfDigest(repository: StoredRepository, digest: string): string | undefined {
  if (!isDigest(digest)) return undefined;
  const target = repository.target(imagePath(digest));
  if (target === undefined) return undefined;
  const shown = repository.shown(imagePath(digest));
  if (target !== pathOfObject(digest))
    throw new ErrnoError(EUCLEAN, `${shown}: leads to ${printable(target)}, not to ${pathOfObject(digest)}`);
  if (repository.hasObject(digest)) return digest;
  throw new ErrnoError(ENOENT, `${shown}: leads to ${printable(target)}, which does not exist`);
}

/** Whether each part of a name is one of a path. */
const isPath = (name: ByteString): boolean =>
  name.split('/').every(part => part !== '' && part !== '.' && part !== '..' && part.length < 256);
