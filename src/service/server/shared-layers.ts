/** The layers of all mounts of a process: images are read once, and directories of objects opened once. */
import { readImageFile } from '../../erofs/image.ts';
import { LayerContext } from '../../layers/context.ts';
import { DirLayer } from '../../layers/dir.ts';
import { ErofsLayer } from '../../layers/erofs.ts';
import { DEFAULT_MEMORY } from '../../overlay/cache.ts';
import { IMAGE_DEFAULTS, settleRules } from '../../overlay/options/rules.ts';
import { Overlay } from '../../overlay/overlay.ts';
import { step } from '../../overlay/step.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { algorithmOfHex } from '../../verity/algorithms.ts';
import { measureHex } from '../../verity/digest.ts';
import { VerityError } from '../../verity/error.ts';
import { versionOf } from '../file-version.ts';

/** An image in memory, which several mounts may use. */
interface SharedImage {
  readonly bytes: Uint8Array;
  /** Its fs-verity digests in hexadecimal, as far as they were measured. */
  readonly digests: Map<string, string>;
  users: number;
}

export class SharedLayers {
  private readonly context = new LayerContext();
  private readonly images = new Map<string, SharedImage>();
  private readonly directories: DirLayer[] = [];

  /** Opens a directory of objects, which stays open. @param fd closed by the caller when this returns */
  addDirectory(fd: number): void {
    this.directories.push(new DirLayer(`/proc/self/fd/${fd}`, DEFAULT_MEMORY.attrSeconds, this.context));
  }

  /**
   * Makes the tree of an image above directories of objects.
   * @param fd of the image, which is closed with the tree
   * @param own descriptors of directories for this image alone; the shared ones are used if there are none
   * @param digest that the image must have; undefined: any
   * @returns the tree, its digest, and the function to be called when it is closed
   * Throws VerityError, and ErrnoError as `openErofsLayer` does.
   */
  open(
    fd: number,
    own: readonly number[],
    { image: shown, digest, verity }: { image: string; digest?: string | undefined; verity: 'off' | 'on' | 'require' },
  ): { readonly overlay: Overlay; readonly digest: string; readonly release: () => void } {
    const key = versionOf(fd);
    const image = this.images.get(key) ?? read(fd, shown, key);
    const found = digestOf(image, digest, shown);
    const layer = new ErofsLayer(shown, image.bytes, fd);
    const owned = own.map(dir => new DirLayer(`/proc/self/fd/${dir}`, DEFAULT_MEMORY.attrSeconds, this.context));
    const rules = settleRules({ verity, followOrigin: false }, IMAGE_DEFAULTS);
    const data = owned.length > 0 ? owned : this.directories;
    const overlay = new Overlay([layer], data, rules, step, DEFAULT_MEMORY, this.context);
    if (owned.length === 0) overlay.shareDataLayers();
    if (!overlay.recalls) throw new ErrnoError(EINVAL, `${shown}: not an image whose files are found by their numbers`);
    this.images.set(key, image);
    image.users++;
    const release = (): void => {
      if (--image.users === 0) this.images.delete(key);
    };
    return { overlay, digest: found, release };
  }
}

function read(fd: number, shown: string, key: string): SharedImage {
  const image = { bytes: readImageFile(fd, shown), digests: new Map<string, string>(), users: 0 };
  if (versionOf(fd) === key) return image;
  throw new ErrnoError(EINVAL, `${shown}: was changed while it was read`);
}

function digestOf({ bytes, digests }: SharedImage, wanted: string | undefined, shown: string): string {
  const algorithm = wanted === undefined ? 'sha256' : algorithmOfHex(wanted);
  if (algorithm === undefined) throw new ErrnoError(EINVAL, `${shown}: ${wanted} is not an fs-verity digest`);
  const found = digests.get(algorithm) ?? measureHex(bytes, algorithm);
  digests.set(algorithm, found);
  if (wanted === undefined || wanted === found) return found;
  throw new VerityError('EWRONGVERITY', `${shown}: the digest of the image is ${found}, not ${wanted}`);
}
