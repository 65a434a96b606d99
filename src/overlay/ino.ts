/** Stable st_ino: one number for each object of any layer, the same at every lookup and in every thread. */
import type { Inode, Layer } from '../layers/layer.ts';
import { ENFILE, EOVERFLOW, ErrnoError } from '../sys/errno.ts';

/** An object's number on its filesystem is below 2^44, and there are at most 2^9 - 1 filesystems: 53 bits in all. */
const INO_BITS = 44;
const INO_LIMIT = 2 ** INO_BITS;
const FILESYSTEMS_MAX = 2 ** (53 - INO_BITS) - 1;

/** The start of the range from which `ino32` gives numbers one by one, downwards from 2^32 - 2. */
const SINGLES_FROM = 2 ** 32 - 2 ** 28;
/** The end of that range: the last 32-bit number, 2^32 - 1, means an unknown inode number in FUSE. */
const SINGLES_TO = 2 ** 32 - 1;

/** The properties of a layer that its numbering depends on. */
export type Numbering = Pick<Layer, 'filesystem' | 'inoLimit'>;

/** How the inode numbers of one filesystem are shown. */
interface InoRange {
  /** The offset that is added to a number below `limit`. */
  readonly base: number;
  readonly limit: number;
  /** The offset that is added to any other number. With `ino32`, a 32-bit number then replaces the sum. */
  readonly wideBase: number;
}

/**
 * Numbers the objects of a stack. If all layers share a filesystem, st_ino is the filesystem's own number, as in the kernel.
 * Otherwise numbers are moved apart, because a FUSE mount has a single st_dev. They stay within 32 bits where they fit, because a
 * 32-bit program gets EOVERFLOW for a larger one.
 *
 * ```
 * 0            in the order of the stack            2^32 - 2^28    2^32           2^44 * (position + 1)
 * | directory | image | image | directory |         | one by one |  ...           | larger numbers
 *   ^           ^ `inoLimit` each                     with `ino32`
 *   equal parts of the rest: numbers of ext4, tmpfs, btrfs and an xfs below 100 GB are smaller than that
 * ```
 */
export class InodeNumbers {
  private readonly places: ReadonlyMap<string, InoRange>;
  private readonly ino32: boolean;
  /** With `ino32`: the 32-bit number given for each wider number. An entry is never removed. */
  private readonly singles = new Map<number, number>();

  /**
   * @param layers in the order of the stack, so that every thread numbers alike
   * @param ino32 whether every number must fit into 32 bits; this keeps an entry for each object whose number does not
   * Throws ErrnoError ENFILE if there are more filesystems than FILESYSTEMS_MAX.
   */
  constructor(layers: Iterable<Numbering>, ino32 = false) {
    const limits = new Map<string, number | undefined>();
    for (const { filesystem, inoLimit } of layers) if (!limits.has(filesystem)) limits.set(filesystem, inoLimit);
    if (limits.size > FILESYSTEMS_MAX) throw new ErrnoError(ENFILE, `more than ${FILESYSTEMS_MAX} filesystems`);
    this.ino32 = ino32;
    this.places = placesOf(limits, limits.size === 1 && !ino32 ? INO_LIMIT : SINGLES_FROM);
  }

  /** st_ino of an object. Throws ErrnoError EOVERFLOW if `ino32` has no 32-bit number left. */
  of(inode: Inode): number {
    const { base, limit, wideBase } = this.places.get(inode.layer.filesystem) as InoRange;
    const { ino } = inode;
    if (ino < limit) return base + ino;
    return this.ino32 ? this.single(wideBase + ino) : wideBase + ino;
  }

  private single(wide: number): number {
    const known = this.singles.get(wide);
    if (known !== undefined) return known;
    const given = SINGLES_TO - 1 - this.singles.size;
    if (given < SINGLES_FROM) throw new ErrnoError(EOVERFLOW, 'ino32_t: no inode number of 32 bits is left');
    this.singles.set(wide, given);
    return given;
  }
}

/**
 * Divides the numbers below `end` among the filesystems.
 * @param limits the bound of each filesystem's numbers, if it is known
 */
function placesOf(limits: ReadonlyMap<string, number | undefined>, end: number): Map<string, InoRange> {
  const bounded = new Map<string, number>();
  let rest = end;
  for (const [filesystem, limit] of limits) {
    if (limit === undefined || limit > rest) continue;
    bounded.set(filesystem, limit);
    rest -= limit;
  }
  const part = Math.floor(rest / (limits.size - bounded.size)); // for each of the others; unused if there are none
  const places = new Map<string, InoRange>();
  let base = 0;
  for (const filesystem of limits.keys()) {
    const limit = bounded.get(filesystem) ?? part;
    places.set(filesystem, { base, limit, wideBase: (places.size + 1) * INO_LIMIT });
    base += limit;
  }
  return places;
}
