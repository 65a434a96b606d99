/**
 * Inode numbers below 2^44 for the objects of a directory layer. An object of its filesystem keeps its number as long as the
 * stack is open.
 * A number of 43 bits on the device of the layer's root is used unchanged. All others are mapped into the upper half:
 *
 * ```
 * 2^43         another device (a subvolume, a layer of an overlay), or larger numbers: 256 ranges of 2^34, one for each
 *              device and upper part of a number; the number's lower 34 bits identify the object
 * 2^43 + 2^42  once all ranges are taken: one number for each object
 * ```
 *
 * Only the last part keeps an entry for each object. It is never reached if the filesystem numbers its inodes upwards, as local
 * ones do. If the numbers are hashes, an entry of 60 bytes stays for each object that was looked up: its number must not go to
 * another object, because programs that know it would take the two for hard links.
 */

const OWN_LIMIT = 2 ** 43;
const RANGE = 2 ** 34;
const RANGES_MAX = 256;
const SINGLES_FROM = OWN_LIMIT + RANGES_MAX * RANGE;

/** An object's number as its filesystem gives it: a device, and 64 bits as two halves. */
export interface ObjectNumber {
  readonly major: number;
  readonly minor: number;
  readonly inoHigh: number;
  readonly inoLow: number;
}

export class LayerNumbers {
  private readonly ranges = new Map<string, number>();
  private readonly singles = new Map<string, Map<number, number>>();
  private singlesCount = 0;

  /** The inode number for an object, below 2^44. @param isOwnDevice whether the object is on the device of its layer's root */
  of(object: ObjectNumber, isOwnDevice: boolean): number {
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

/** The value of a key in a map; if it has none, `make` creates one. */
function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
