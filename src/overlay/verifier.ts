/** Checks data against the digest of its metacopy xattr, by what the kernel has measured or by measuring it. */
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
import { type Digest, METACOPY_BYTES_MAX, parseDigest } from './metacopy.ts';
import type { Node } from './node.ts';
import type { StackOptions } from './options.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** Objects whose digest is remembered at most, and bytes of what is remembered: block hashes take 1/128 of the data. */
const MEASURED_MAX = 65_536;
const MEASURED_BYTES_MAX = 1 << 26;
/** A digest, its key, and the cache around them take less; each one counts as this, so that bytes bound their number, too. */
const ENTRY_BYTES = MEASURED_BYTES_MAX / MEASURED_MAX;
/**
 * Data in an image that is measured at most: a second's work, for it is done on this thread. An inode of a few bytes can claim
 * petabytes, all of them a hole.
 */
const IN_IMAGE_MAX = 2 ** 30;

/** What was found out about an object's data. */
export interface Measured {
  /** The fs-verity digest. */
  readonly digest: Uint8Array;
  /** The hash of each block, one after the other, where they were asked for. */
  readonly leaves?: Uint8Array | undefined;
  /** The kernel has measured it, and checks every block that is read. */
  readonly byKernel: boolean;
}

/** What was found out about the last version of an object that was measured. */
interface Known {
  readonly version: string;
  readonly measured: Measured;
}

/** By object and algorithm: what an object was before it changed is of no use, and gives its place to what it is. */
class Memory {
  readonly counts = new CacheCounts();
  /** Without `max`: for that, the cache takes memory in advance, and 5 ms. */
  private readonly known = new LRUCache<string, Known>({
    maxSize: MEASURED_BYTES_MAX,
    sizeCalculation: ({ measured: { leaves } }) => ENTRY_BYTES + (leaves?.length ?? 0),
  });

  constructor() {
    this.counts.holds(this.known, MEASURED_MAX);
  }

  /** @param withLeaves only what can tell of a block whether it is as measured */
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
  private readonly memory = new Memory();

  constructor(xattrs: OverlayXattrs, { redirects, verity }: Pick<StackOptions, 'redirects' | 'verity'>) {
    this.xattrs = xattrs;
    this.verity = redirects === 'strict' ? 'require' : verity;
  }

  /** Of what is remembered. */
  get counts(): CacheCounts {
    return this.memory.counts;
  }

  /**
   * What has to be checked of a file's data; undefined: nothing. @param byOrigin the data was found by its origin, so that
   * its digest counts whatever the option says
   * Throws ErrnoError: EIO, ERANGE for a malformed digest (for data found by its origin always EIO, also where its size is not that
   * of the file), EIO where one is missing and required; EFBIG for data in an image that takes too long to measure.
   * Source: kernel ovl_validate_verity.
   */
  check({ ino, top, data: place }: Node, data: Data, byOrigin: boolean): Check | undefined {
    if (place === undefined || (this.verity === 'off' && !byOrigin)) return undefined;
    const value = top.layer.getxattr(top, this.xattrs.metacopy) ?? new Uint8Array(0);
    if (byOrigin && value.length > METACOPY_BYTES_MAX) throw new ErrnoError(EIO, `metacopy of ${value.length} bytes`);
    const digest = parseDigest(value);
    if (digest !== undefined && data.fd < 0 && data.sizeBytes > IN_IMAGE_MAX)
      throw new ErrnoError(EFBIG, `${data.place}: ${data.sizeBytes} bytes to check, more than ${IN_IMAGE_MAX}`);
    if (byOrigin && data.sizeBytes !== top.sizeBytes)
      throw new ErrnoError(EIO, `${data.place}: ${data.sizeBytes} bytes, its metacopy has ${top.sizeBytes}`);
    if (digest !== undefined) return new Check(this.memory, data, digest, byOrigin);
    if (this.verity === 'require') throw new VerityError('ENOVERITY', `ino ${ino} has no digest for ${data.place}`);
    return undefined;
  }
}

/** One check of one object's data. The digest is compared by whatever gives what was measured: EIO where it is another. */
export class Check {
  readonly data: Data;
  /** The version that is checked: what changes later is not covered. */
  readonly version: string;
  readonly sizeBytes: number;
  readonly algorithm: Algorithm;
  /** The same for all checks of the same data by the same algorithm. */
  readonly key: string;
  /** Whether nothing but the digest lets the reader in: no byte may be read that is not covered, whatever the file becomes. */
  readonly byOrigin: boolean;
  private readonly memory: Memory;
  private readonly hasVerity: boolean;
  private readonly isSettled: boolean;
  /** That the data must have. */
  readonly digest: Uint8Array;

  constructor(memory: Memory, data: Data, { algorithm, bytes }: Digest, byOrigin: boolean) {
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

  /** What is known without reading the data: remembered, or from the kernel. undefined: it is to be measured. */
  known(withLeaves: boolean): Measured | undefined {
    const remembered = this.memory.get(this, withLeaves);
    if (remembered) return this.approved(remembered);
    const digest = this.hasVerity && digestByKernel(this.data, this.algorithm);
    return digest ? this.learn({ digest, byKernel: true }) : undefined;
  }

  /** Reads all of the data, on this thread. Throws ErrnoError also where it can not be read. */
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

  /** Takes what was measured, here or elsewhere, and remembers it if the data did not change meanwhile. */
  learn(measured: Measured): Measured {
    if (this.isLasting(measured) && this.version === this.data.version) this.memory.set(this, measured);
    return this.approved(measured);
  }

  /** Whether a measurement holds for as long as the version does: of data that changed just now, another change may not show. */
  isLasting({ byKernel }: Measured): boolean {
    return byKernel || this.isSettled;
  }

  private approved(measured: Measured): Measured {
    if (Buffer.compare(measured.digest, this.digest) === 0) return measured;
    const [found, wanted] = [measured.digest, this.digest].map(bytes => Buffer.from(bytes).toString('hex'));
    throw new VerityError('EWRONGVERITY', `${this.data.place}: the data is ${found}, its metacopy says ${wanted}`);
  }

  /** The data, every block of which is compared with what was measured each time it is read. */
  checkedData(leaves: Uint8Array): Data {
    const { data, sizeBytes, algorithm } = this;
    return new CheckedData(data, sizeBytes, new VerityTree(parametersOf(algorithm), sizeBytes, leaves));
  }
}

/** What data is now. Where one question does not answer all, it may have fs-verity, so that the kernel is asked. */
export function lookAt(data: Data): Look {
  if (data.look) return data.look();
  const { version, sizeBytes, fd } = data;
  return { version, sizeBytes, hasVerity: fd >= 0, isSettled: true };
}

/** Data of which no byte is handed out that was not measured. It owns nothing: closing it closes the data itself. */
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

  /** Throws ErrnoError EIO, with the layer, the object and the block, where a block is not what was measured. */
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

  /** Of what was measured alone: the file may have grown. */
  seek(offset: number, whence: number): number {
    return offset >= this.sizeBytes ? -ENXIO : Math.min(this.data.seek(offset, whence), this.sizeBytes);
  }

  close(): void {
    this.data.close();
  }
}

/** What the filesystem of the object has measured; undefined where it has no fs-verity or another algorithm. */
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
