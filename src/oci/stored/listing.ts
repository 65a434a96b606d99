/** The images of a repository, with all that is known of them. */
import type { ByteString, Seconds } from '../../sys/bytes.ts';
import { ErrnoError } from '../../sys/errno.ts';
import { IMAGE_REFS, IMAGES, imageNamed, imageOfDigest, isDigest } from './image-links.ts';
import { countingManifest, namesOf, taggedManifest, tagPath } from './names.ts';
import { type OciImage, readOciImage } from './oci-image.ts';
import type { StoredRepository } from './repository.ts';
import { type ImageSizes, sizesOf } from './sizes.ts';

export interface ListedImage {
  /** undefined for an image that has no name. */
  readonly name: ByteString | undefined;
  /** When it got the name, or was made. */
  readonly time: readonly [seconds: Seconds, nanoseconds: number];
  /** Its fs-verity digest; undefined for an artifact that is no image, and where none was made. */
  readonly digest: string | undefined;
  /** undefined where the repository has only the composefs image. */
  readonly oci: OciImage | undefined;
  readonly sizes: ImageSizes | undefined;
}

/** An image, or why it cannot be read. */
export type Listed = ListedImage | ErrnoError;

/** All names in byte order, each with its image; then the images without a name. */
export async function* listImages(repository: StoredRepository): AsyncGenerator<Listed> {
  const named = new Set<string>();
  for (const name of namesOf(repository)) {
    const image = await imageOf(repository, name);
    if (!(image instanceof ErrnoError) && image.digest !== undefined) named.add(image.digest);
    yield image;
  }
  for (const [digest] of repository.entries(IMAGES))
    if (isDigest(digest) && !named.has(digest)) yield await imageOf(repository, undefined, digest);
}

async function imageOf(repository: StoredRepository, name: ByteString | undefined, digest?: string): Promise<Listed> {
  try {
    return name === undefined
      ? { name, ...unnamed(repository, digest as string) }
      : { name, ...(await describe(repository, name)) };
  } catch (error) {
    if (error instanceof ErrnoError) return error;
    throw error;
  }
}

type Described = Omit<ListedImage, 'name'>;

/** What is known of the image of a name. Throws ErrnoError for what is damaged or missing. */
export async function describe(repository: StoredRepository, name: ByteString): Promise<Described> {
  const manifest = taggedManifest(repository, name);
  const oci = manifest === undefined ? undefined : await readOciImage(repository, manifest);
  const counts = countingManifest(repository, name) !== undefined;
  const digest = counts ? oci?.image : (imageNamed(repository, name) ?? imageOfDigest(repository, name));
  const path = manifest === undefined ? `${IMAGE_REFS}/${name}` : tagPath(name);
  return {
    time: repository.time(path) ?? repository.time(`${IMAGES}/${name}`) ?? [0, 0],
    digest,
    oci,
    sizes: digest === undefined ? undefined : sizesOf(repository, digest),
  };
}

function unnamed(repository: StoredRepository, digest: string): Described {
  const found = imageOfDigest(repository, digest);
  const time = repository.time(`${IMAGES}/${digest}`) ?? [0, 0];
  return { time, digest: found, oci: undefined, sizes: found === undefined ? undefined : sizesOf(repository, found) };
}
