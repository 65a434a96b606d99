/**
 * An image in the storage of podman and buildah, with its driver for overlayfs:
 *
 * ```
 * overlay-images/images.json                 names of images, and their topmost layers
 * overlay-images/ID/KEY                      manifests and configurations
 * overlay-layers/layers.json                 which layer lies on which, and the digests of their archives
 * overlay-layers/ID.tar-split.gz             a layer's archive without the data of files
 * overlay/ID/diff                            the files of a layer
 * ```
 * The archives are put together from these, and checked as those of all sources are.
 */
import { O_DIRECTORY, O_PATH, openDirectory, openIn } from '../../sys/beneath.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ENOENT, EOPNOTSUPP, ErrnoError, errnoText, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { type Expected, readBlob, readDocument } from '../blobs.ts';
import { decompress } from '../decompress.ts';
import { type ImageFiles, openFilesIn } from '../files.ts';
import { closingIfFailed, manifestImage, type OpenImage } from '../image.ts';
import type { Platform } from '../platform.ts';
import type { ImageSource } from '../source.ts';
import { ownStorage } from './location.ts';
import { COPY, findImage, IMAGES, layersOf } from './records.ts';
import type { StorageReference } from './reference.ts';
import { assemble } from './tar-split.ts';

const DRIVER = 'overlay';
const SPLIT = '.tar-split.gz';

/** Opens an image in a storage; its source has to be closed later. Throws ErrnoError with the path of what is missing or damaged. */
export async function openStorageImage(
  reference: StorageReference,
  platform: Platform | undefined,
): Promise<OpenImage> {
  const own = reference.root === undefined ? ownStorage() : undefined;
  const root = reference.root ?? (own as { root: ByteString }).root;
  const driver = reference.driver || own?.driver || DRIVER;
  if (driver !== DRIVER)
    throw new ErrnoError(EOPNOTSUPP, `${printable(root)}: the driver ${driver} is not supported; ${DRIVER} is`);
  const source = new StorageSource(openFilesIn(root), must(openDirectory(root, true), printable(root)));
  return closingIfFailed(source, async () => {
    const image = findImage(source.files, reference.image);
    const topDigest = image['big-data-digests']?.manifest ?? image.digest ?? undefined;
    const place = (key: string): string => `${IMAGES.replace(/[^/]*$/, '')}${image.id}/${fileOf(key)}`;
    const manifest = (digest: string): string => place(`manifest-${digest}`);
    const opened = await manifestImage(source, { top: place('manifest'), topDigest, manifest, blob: place }, platform);
    const ids = layersOf(
      source.files,
      image,
      opened.layers.map(({ diffId }) => diffId),
    );
    const layers = opened.layers.map(({ diffId }, i) => ({
      path: `overlay-layers/${ids[i]}${SPLIT}`,
      blob: undefined,
      diffId,
    }));
    return { ...opened, layers };
  });
}

/** The file of a key. Source: containers/storage, makeBigDataBaseName. */
const fileOf = (key: string): string => (/^[a-z0-9.]+$/.test(key) ? key : `=${Buffer.from(key).toString('base64')}`);

class StorageSource implements ImageSource {
  readonly files: ImageFiles;
  readonly #root: number;

  /** @param root a descriptor of the same directory */
  constructor(files: ImageFiles, root: number) {
    this.files = files;
    this.#root = root;
  }

  get shown(): string {
    return this.files.shown;
  }

  document(name: string, expected?: Expected): Uint8Array {
    return readDocument(this.files, name, expected);
  }

  /** The archive of a layer by the path of its file of tar-split. */
  async *blob(name: string, _expected: unknown, count: (bytes: number) => void): AsyncGenerator<Uint8Array> {
    const id = name.slice(name.lastIndexOf('/') + 1, -SPLIT.length);
    const what = `${this.shown}/${name}`;
    const files = this.#openFiles(id, what);
    let bytes = 0;
    try {
      const lines = decompress(
        readBlob(this.files, name, undefined, () => {}),
        what,
      );
      for await (const piece of assemble(lines, files, what)) {
        yield piece;
        bytes += piece.length;
        count(bytes);
      }
    } finally {
      native.close(files.fd);
    }
  }

  close(): void {
    this.files.close();
    native.close(this.#root);
  }

  /** Opens the files of a layer, from which its archive can be made. */
  #openFiles(id: string, split: string): { fd: number; shown: string } {
    const isThere = (path: string, flags: number): boolean => {
      const fd = openIn(this.#root, path, O_PATH | flags, 0);
      if (fd >= 0) native.close(fd);
      else if (fd !== -ENOENT) throw new ErrnoError(-fd, `${this.shown}/${path}: ${errnoText(fd)}`);
      return fd >= 0;
    };
    const refuse = (why: string): never => {
      throw new ErrnoError(
        EOPNOTSUPP,
        `${this.shown}: layer ${id} ${why}, and its archive cannot be made again; ${COPY}`,
      );
    };
    if (isThere(`overlay/${id}/composefs-data`, 0)) refuse('is kept for composefs');
    if (!isThere(`overlay-layers/${id}${SPLIT}`, 0)) refuse(`has no ${split.slice(this.shown.length + 1)}`);
    const shown = `${this.shown}/overlay/${id}/diff`;
    return { fd: must(openIn(this.#root, `overlay/${id}/diff`, O_PATH | O_DIRECTORY, 0), shown), shown };
  }
}
