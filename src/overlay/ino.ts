/** st_ino that stays put: one number for each object of any layer, the same at every lookup and in every thread. */
import type { Inode, Layer } from '../layers/layer.ts';
import { ENFILE, EOVERFLOW, ErrnoError } from '../sys/errno.ts';

/** An object's number on its filesystem is below 2^44, and there are at most 2^9 - 1 filesystems: 53 bits in all. */
const INO_BITS = 44;
const INO_LIMIT = 2 ** INO_BITS;
const FILESYSTEMS_MAX = 2 ** (53 - INO_BITS) - 1;

/** Where the numbers begin that `ino32` gives one by one, downwards from the last 32-bit number but one. */
const SINGLES_FROM = 2 ** 32 - 2 ** 28;
/** The last one, 2^32 - 1, is FUSE's word for an unknown number. */
const SINGLES_TO = 2 ** 32 - 1;

/** What numbers need to know of a layer. */
export type Numbering = Pick<Layer, 'filesystem' | 'inoLimit'>;

/** Where the numbers of one filesystem are. */
interface Place {
  /** Numbers below `limit` are shown from here on. */
  readonly base: number;
  readonly limit: number;
  /** All others are shown from here on, unless all have to have 32 bits. */
  readonly wideBase: number;
}

/**
 * Numbers the objects of a stack. Where all layers share a filesystem, its own numbers are shown, as the kernel does.
 * FUSE has one st_dev for all, so that others are moved: into 32 bits where they fit, because a program of 32 bits gets
 * EOVERFLOW for anything more.
 *
 * ```
 * 0            in the order of the stack            2^32 - 2^28    2^32           2^44 * (position + 1)
 * | directory | image | image | directory |         | one by one |  ...           | what is larger
 *   ^           ^ `inoLimit` each                     with `ino32`
 *   equal parts of what is left: numbers of ext4, tmpfs, btrfs and an xfs below 100 GB are smaller than that
 * ```
 */
export class InodeNumbers {
  private readonly places: ReadonlyMap<string, Place>;
  private readonly ino32: boolean;
  /** With `ino32`: what was given for a number that has more bits, for good. */
  private readonly singles = new Map<number, number>();

  /**
   * @param layers in the order of the stack, so that every thread counts alike
   * @param ino32 whether no number may have more than 32 bits, which keeps something for each object that would
   * Throws ErrnoError ENFILE for more filesystems than fit.
   */
  constructor(layers: Iterable<Numbering>, ino32 = false) {
    const limits = new Map<string, number | undefined>();
    for (const { filesystem, inoLimit } of layers) if (!limits.has(filesystem)) limits.set(filesystem, inoLimit);
    if (limits.size > FILESYSTEMS_MAX) throw new ErrnoError(ENFILE, `more than ${FILESYSTEMS_MAX} filesystems`);
    this.ino32 = ino32;
    this.places = placesOf(limits, limits.size === 1 && !ino32 ? INO_LIMIT : SINGLES_FROM);
  }

  /** st_ino of an object. Throws ErrnoError EOVERFLOW where `ino32` has none left. */
  of(inode: Inode): number {
    const { base, limit, wideBase } = this.places.get(inode.layer.filesystem) as Place;
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

/** @param limits the bound of each filesystem's numbers, where it is known @param end below this is room for those that fit */
function placesOf(limits: ReadonlyMap<string, number | undefined>, end: number): Map<string, Place> {
  const bounded = new Map<string, number>();
  let rest = end;
  for (const [filesystem, limit] of limits) {
    if (limit === undefined || limit > rest) continue;
    bounded.set(filesystem, limit);
    rest -= limit;
  }
  const part = Math.floor(rest / (limits.size - bounded.size)); // of each of the others, if there are any
  const places = new Map<string, Place>();
  let base = 0;
  for (const filesystem of limits.keys()) {
    const limit = bounded.get(filesystem) ?? part;
    places.set(filesystem, { base, limit, wideBase: (places.size + 1) * INO_LIMIT });
    base += limit;
  }
  return places;
}
