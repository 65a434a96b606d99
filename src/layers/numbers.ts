/**
 * Inode numbers below 2^44 for objects of a directory layer, one for each object of its filesystem as long as the process
 * lives. A number of 43 bits on the device of the layer's root stays what it is. All others are of the upper half:
 *
 * ```
 * 2^43         another device (a subvolume, a layer of an overlay), or larger numbers: 256 ranges of 2^34, one for each
 *              device and upper part of a number that is met; the number's lower 34 bits tell the object
 * 2^43 + 2^42  what is met when all ranges are taken, one number for each object
 * ```
 *
 * Only the last part keeps anything for each object. It is never reached where filesystems number upwards, as local ones do;
 * where their numbers are hashes, an entry of 60 bytes lives on for each object that was looked up: its number may not go to
 * another one, for programs that know it would take the two for hard links.
 */

const OWN_LIMIT = 2 ** 43;
const RANGE = 2 ** 34;
const RANGES_MAX = 256;
const SINGLES_FROM = OWN_LIMIT + RANGES_MAX * RANGE;

/** An object's number as its filesystem gives it: a device, and 64 bits. */
export interface Numbered {
  readonly major: number;
  readonly minor: number;
  readonly inoHigh: number;
  readonly inoLow: number;
}

export class LayerNumbers {
  private readonly ranges = new Map<string, number>();
  private readonly singles = new Map<string, Map<number, number>>();
  private singlesCount = 0;

  /** @param isOwnDevice whether the object is of the device of its layer's root */
  of(object: Numbered, isOwnDevice: boolean): number {
    const { major, minor, inoHigh, inoLow } = object;
    const ino = inoHigh * 2 ** 32 + inoLow;
    if (isOwnDevice && ino < OWN_LIMIT) return ino;
    const key = `${major}:${minor} ${inoHigh >>> 2}`;
    const low = (inoHigh & 3) * 2 ** 32 + inoLow;
    const range = this.range(key);
    return range === undefined ? this.single(key, low) : OWN_LIMIT + range * RANGE + low;
  }

  private range(key: string): number | undefined {
    const known = this.ranges.get(key);
    if (known !== undefined || this.ranges.size === RANGES_MAX) return known;
    const range = this.ranges.size;
    this.ranges.set(key, range);
    return range;
  }

  private single(key: string, low: number): number {
    const numbers = entry(this.singles, key, () => new Map<number, number>());
    return entry(numbers, low, () => SINGLES_FROM + this.singlesCount++);
  }
}

const byFilesystem = new Map<string, LayerNumbers>();

/** The numbers of a filesystem: the same ones for all layers on it. */
export const numbersOf = (filesystem: string): LayerNumbers =>
  entry(byFilesystem, filesystem, () => new LayerNumbers());

/** What a map has for a key, made where it has nothing. */
function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
