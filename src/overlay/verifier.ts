/**
 * Checks data against the digest of its metacopy xattr. The digest of the data comes from the kernel or from a measurement here.
 */
import { LRUCache } from 'lru-cache';
import type { Data, Look } from '../layers/layer.ts';
import { CacheCounts } from '../sys/counters.ts';
import { EFBIG, EIO, ENXIO, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { identityIn } from '../sys/statx.ts';
import { ALGORITHMS, type Algorithm, parametersOf } from '../verity/algorithms.ts';
import { measure, measureLeaves } from '../verity/digest.ts';
import { VerityError } from '../verity/error.ts';
import { VerityTree } from '../verity/tree.ts';
import { type Digest, hasDigest, METACOPY_BYTES_MAX, parseDigest } from './metacopy.ts';
import type { Node } from './node.ts';
import type { StackOptions } from './options/rules.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** The maximum number of objects that are remembered, and of bytes for them: block hashes take 1/128 of the data. */
const MEASURED_MAX = 65_536;
const MEASURED_BYTES_MAX = 1 << 26;
/**
 * Each entry counts as this many bytes, so that MEASURED_BYTES_MAX bounds their number as well. A digest, its key and the cache
 * around them take less.
 */
const ENTRY_BYTES = MEASURED_BYTES_MAX / MEASURED_MAX;
/**
 * The maximum size of data in an image that is measured, which takes a second on this thread. Without a limit, an inode of a few
 * bytes could claim petabytes, all of them a hole.
 */
const IN_IMAGE_MAX = 2 ** 30;

/** The result of a measurement of an object's data. */
export interface Measured {
  /** The fs-verity digest. */
  readonly digest: Uint8Array;
  /** The hashes of the blocks, one after the other, if they were asked for. */
  readonly leaves?: Uint8Array | undefined;
  /** Whether the kernel has measured the data; if so, it checks every block that is read. */
  readonly byKernel: boolean;
}

/** The measurement of the last version of an object that was measured. */
interface KnownMeasurement {
  readonly version: string;
  readonly measured: Measured;
}

/** Remembers measurements by object and algorithm. When an object changes, its new measurement replaces the old one. */
class MeasurementCache {
  readonly counts = new CacheCounts();
  /** `max` is not set, because the cache would allocate memory for all entries in advance, which takes 5 ms. */
  private readonly known = new LRUCache<string, KnownMeasurement>({
    maxSize: MEASURED_BYTES_MAX,
    sizeCalculation: ({ measured: { leaves } }) => ENTRY_BYTES + (leaves?.length ?? 0),
  });

  constructor() {
    this.counts.holds(this.known, MEASURED_MAX);
  }

  /** @param withLeaves whether only a measurement counts that can check single blocks: by the kernel, or with block hashes */
  get(check: Check, withLeaves: boolean): Measured | undefined {
    const known = this.known.get(keyOf(check));
    const found = known?.version === check.version ? known.measured : undefined;
    const isEnough = found && (found.byKernel || found.leaves || !withLeaves);
    this.counts.asked(!!isEnough);
    return isEnough ? found : undefined;
  }

  set(check: Check, measured: Measured): void {
    this.known.set(keyOf(check), { version: check.version, measured });
    this.counts.holds(this.known, MEASURED_MAX);
  }
}

const keyOf = ({ algorithm, version, data }: Check): string => `${algorithm} ${identityIn(version) || data.place}`;

export class Verifier {
  private readonly xattrs: OverlayXattrs;
  private readonly verity: StackOptions['verity'];
  private readonly memory = new MeasurementCache();

  constructor(xattrs: OverlayXattrs, { redirects, verity }: Pick<StackOptions, 'redirects' | 'verity'>) {
    this.xattrs = xattrs;
    this.verity = redirects === 'strict' ? 'require' : verity;
  }

  /** The counters of the remembered measurements. */
  get counts(): CacheCounts {
    return this.memory.counts;
  }

  /**
   * The check that a file's data must pass; undefined if none is needed.
   * @param byOrigin the data was found by its origin, so that its digest is checked even with verity=off
   * Throws ErrnoError: EIO or ERANGE for a malformed digest; EIO if a digest is missing and required; EFBIG for data in an image
   * that takes too long to measure. For data found by its origin, a malformed digest is always EIO, and so is a size that is not
   * that of the file.
   * Source: kernel ovl_validate_verity.
   */
  check({ ino, top, data: place, origin }: Node, data: Data, byOrigin: boolean): Check | undefined {
    if (place === undefined || (this.verity === 'off' && !byOrigin)) return undefined;
    const own = top.layer.getxattr(top, this.xattrs.metacopy) ?? new Uint8Array(0);
    // the kernel's copy-up writes no digest, but the inode that was copied has it
    const value = hasDigest(own) || !origin ? own : (origin.layer.getxattr(origin, this.xattrs.metacopy) ?? own);
    if (byOrigin && value.length > METACOPY_BYTES_MAX) throw new ErrnoError(EIO, `metacopy of ${value.length} bytes`);
    const digest = parseDigest(value);
    if (digest !== undefined && data.fd < 0 && data.sizeBytes > IN_IMAGE_MAX)
      throw new ErrnoError(EFBIG, `${data.place}: ${data.sizeBytes} bytes to check, more than ${IN_IMAGE_MAX}`);
    if (byOrigin && data.sizeBytes !== top.sizeBytes)
      throw new ErrnoError(EIO, `${data.place}: ${data.sizeBytes} bytes, but its metacopy has ${top.sizeBytes}`);
    if (digest !== undefined) return new Check(this.memory, data, digest, byOrigin);
    if (this.verity === 'require') throw new VerityError('ENOVERITY', `ino ${ino} has no digest for ${data.place}`);
    return undefined;
  }
}

/** One check of one object's data. Each method that obtains a measurement compares the digest and throws EIO if it differs. */
export class Check {
  readonly data: Data;
  /** The version that is checked: later changes are not covered. */
  readonly version: string;
  readonly sizeBytes: number;
  readonly algorithm: Algorithm;
  /** The same for all checks of the same data by the same algorithm. */
  readonly key: string;
  /**
   * Whether only the digest permits the read, as for data found by its origin: no byte may be read that is not covered, even if
   * the file changes.
   */
  readonly byOrigin: boolean;
  private readonly memory: MeasurementCache;
  private readonly hasVerity: boolean;
  private readonly isSettled: boolean;
  /** The digest that the data must have. */
  readonly digest: Uint8Array;

  constructor(memory: MeasurementCache, data: Data, { algorithm, bytes }: Digest, byOrigin: boolean) {
    this.memory = memory;
    this.data = data;
    this.byOrigin = byOrigin;
    const { version, sizeBytes, hasVerity, isSettled } = lookAt(data);
    this.version = version;
    this.sizeBytes = sizeBytes;
    this.hasVerity = hasVerity;
    this.isSettled = isSettled;
    this.algorithm = algorithm;
    this.key = `${algorithm} ${this.version || data.place}`;
    this.digest = bytes;
  }

  /**
   * The measurement that is known without reading the data: remembered, or from the kernel. undefined: the data must be measured.
   */
  known(withLeaves: boolean): Measured | undefined {
    const remembered = this.memory.get(this, withLeaves);
    if (remembered) return this.approved(remembered);
    const digest = this.hasVerity && digestByKernel(this.data, this.algorithm);
    return digest ? this.learn({ digest, byKernel: true }) : undefined;
  }

  /** Reads and measures all of the data, on this thread. Throws ErrnoError also if the data cannot be read. */
  measure(withLeaves: boolean): Measured {
    const { data, sizeBytes, algorithm } = this;
    const read = (out: Uint8Array, at: number, length: number, position: number): number =>
      data.read(out, at, length, position);
    const parameters = parametersOf(algorithm);
    const measured = withLeaves
      ? measureLeaves(read, sizeBytes, parameters)
      : { digest: measure(read, sizeBytes, parameters) };
    return this.learn({ ...measured, byKernel: false });
  }

  /** Takes a measurement, made here or elsewhere, and remembers it if the data did not change meanwhile. */
  learn(measured: Measured): Measured {
    if (this.isLasting(measured) && this.version === this.data.version) this.memory.set(this, measured);
    return this.approved(measured);
  }

  /**
   * Whether a measurement holds as long as the version stays the same. It does not if the data changed just now, because another
   * change may give the same version.
   */
  isLasting({ byKernel }: Measured): boolean {
    return byKernel || this.isSettled;
  }

  private approved(measured: Measured): Measured {
    if (Buffer.compare(measured.digest, this.digest) === 0) return measured;
    const [found, wanted] = [measured.digest, this.digest].map(bytes => Buffer.from(bytes).toString('hex'));
    throw new VerityError(
      'EWRONGVERITY',
      `${this.data.place}: the digest of the data is ${found}, but its metacopy says ${wanted}`,
    );
  }

  /** The same data, but every block is compared with the measurement each time it is read. */
  checkedData(leaves: Uint8Array): Data {
    const { data, sizeBytes, algorithm } = this;
    return new CheckedData(data, sizeBytes, new VerityTree(parametersOf(algorithm), sizeBytes, leaves));
  }
}

/** The present state of data. Without `look`, data with a descriptor is taken to have fs-verity, so that the kernel is asked. */
export function lookAt(data: Data): Look {
  if (data.look) return data.look();
  const { version, sizeBytes, fd } = data;
  return { version, sizeBytes, hasVerity: fd >= 0, isSettled: true };
}

/** Data that returns only bytes whose blocks match the measurement. Closing it closes the data itself. */
class CheckedData implements Data {
  readonly fd: number;
  readonly place: string;
  readonly sizeBytes: number;
  private readonly data: Data;
  private readonly tree: VerityTree;

  constructor(data: Data, sizeBytes: number, tree: VerityTree) {
    this.fd = data.fd;
    this.place = data.place;
    this.sizeBytes = sizeBytes;
    this.data = data;
    this.tree = tree;
  }

  get version(): string {
    return this.data.version;
  }

  /** Throws ErrnoError EIO, naming the layer, the object and the block, if a block differs from the measurement. */
  read(out: Uint8Array, at: number, length: number, position: number): number {
    const read = (into: Uint8Array, from: number, bytes: number, where: number): number =>
      this.data.read(into, from, bytes, where);
    try {
      return this.tree.read(read, out, at, length, position);
    } catch (error) {
      if (error instanceof VerityError) throw new VerityError(error.code, `${this.place}: ${error.what}`);
      if (!(error instanceof ErrnoError)) throw error;
      throw new ErrnoError(error.errno, `${this.place}: ${error.message}`);
    }
  }

  /** Considers only the measured bytes: the file may have grown. */
  seek(offset: number, whence: number): number {
    return offset >= this.sizeBytes ? -ENXIO : Math.min(this.data.seek(offset, whence), this.sizeBytes);
  }

  close(): void {
    this.data.close();
  }
}

/** The fs-verity digest from the filesystem of the object; undefined if it has no fs-verity or uses another algorithm. */
export function digestByKernel(data: Data, algorithm: Algorithm): Uint8Array | undefined {
  if (data.fd < 0) return undefined;
  const { number, digestBytes } = ALGORITHMS[algorithm];
  const answer = new Uint8Array(FsverityDigest.digest + digestBytes);
  const length = native.measureVerity(data.fd, answer);
  if (length !== answer.length || answer[FsverityDigest.digest_algorithm] !== number) return undefined;
  return answer.subarray(FsverityDigest.digest);
}

/** struct fsverity_digest. Source: linux/fsverity.h. */
const FsverityDigest = { digest_algorithm: 0 /* u16 */, digest_size: 2 /* u16 */, digest: 4 } as const;
