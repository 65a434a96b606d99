/** What an image of a repository takes: its names and its objects. */
import { walkImage } from '../../composefs/walk-image.ts';
import { openImage, readImageFile } from '../../erofs/image.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { isRegular } from '../../sys/stat.ts';
import { pathOfObject, type StoredRepository } from './repository.ts';

export interface ImageSizes {
  readonly imageBytes: number;
  /** The names in its tree, the root among them. */
  readonly names: number;
  /** Its objects, each once, and their bytes. */
  readonly objects: number;
  readonly objectBytes: number;
}

/** Reads an image. Throws ErrnoError with its path: EINVAL for one that is not of composefs, EUCLEAN if it is damaged. */
export function sizesOf(repository: StoredRepository, digest: string): ImageSizes {
  const shown = repository.shown(pathOfObject(digest));
  const file = repository.openObject(digest);
  try {
    const bytes = readImageFile(file.fd, shown);
    const image = openImage(bytes);
    if (!image.composefs) throw new ErrnoError(EINVAL, 'an EROFS image, but not a composefs image');
    const objects = new Map<string, number>();
    let names = 0;
    for (const { inode } of walkImage(image)) {
      names++;
      const { mode, payload, digest: own, sizeBytes } = inode;
      const object = own ?? payload;
      if (isRegular(mode) && object) objects.set(object, sizeBytes);
    }
    const objectBytes = [...objects.values()].reduce((sum, size) => sum + size, 0);
    return { imageBytes: bytes.length, names, objects: objects.size, objectBytes };
  } catch (error) {
    if (!(error instanceof ErrnoError) || error.message.startsWith(shown)) throw error;
    throw new ErrnoError(error.errno, `${shown}: ${error.message}`);
  } finally {
    file.close();
  }
}
