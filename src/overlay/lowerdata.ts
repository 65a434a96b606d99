/** Finds a file's data, at open and not before, and checks it against the digest of its metacopy xattr. */
import { LRUCache } from 'lru-cache';
import type { Data, Layer } from '../layers/layer.ts';
import type { Name } from '../sys/bytes.ts';
import { EINTR, EIO, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM, ErrnoError } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { ALGORITHMS, DEFAULTS, measure } from '../verity/digest.ts';
import { type Digest, hasDigest, parseDigest } from './metacopy.ts';
import type { Node } from './node.ts';
import type { StackOptions } from './options.ts';
import { parseOrigin } from './origin.ts';
import { OriginFinder } from './origin-finder.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** Objects whose digest is remembered at most. */
const MEASURED_MAX = 65_536;

/** What says nothing about the path: such an open is not tried by origin. */
const PASSING: readonly number[] = [-EINTR, -ENOMEM, -ENFILE, -EMFILE];

export class Lowerdata {
  private readonly dataLayers: readonly Layer[];
  private readonly origins: OriginFinder;
  private readonly xattrs: OverlayXattrs;
  private readonly verity: StackOptions['verity'];
  /** The digest of each object measured, by its version and the algorithm. */
  private readonly measured = new LRUCache<string, Uint8Array>({ max: MEASURED_MAX });
  /** Data that was found by origin: its digest counts whatever the option verity says. */
  private readonly foundByOrigin = new WeakSet<Data>();

  constructor(
    layers: readonly Layer[],
    dataLayers: readonly Layer[],
    xattrs: OverlayXattrs,
    options: Pick<StackOptions, 'redirects' | 'verity'>,
  ) {
    this.dataLayers = dataLayers;
    this.origins = new OriginFinder([...dataLayers, ...layers]);
    this.xattrs = xattrs;
    this.verity = options.redirects === 'strict' ? 'require' : options.verity;
  }

  /** The data of a regular file; see Overlay.open. A failure is not remembered. */
  open(node: Node): Data | number {
    const { top, data: place } = node;
    if (place === undefined) return top.layer.open(top);
    let data = typeof place === 'string' ? this.openPath(place) : place.layer.open(place);
    if (typeof data === 'number' && node.followsOrigin && !PASSING.includes(data)) data = this.openOrigin(node, data);
    if (typeof data === 'number') return data;
    try {
      this.verify(node, data);
    } catch (error) {
      data.close();
      throw error;
    }
    return data;
  }

  /** The first data-only layer that has a regular file at the path; else the errno of the last one. */
  private openPath(path: Name): Data | number {
    let result: Data | number = -ENOENT;
    if (path === '') return result;
    for (const layer of this.dataLayers) {
      result = layer.openPath(path);
      if (typeof result !== 'number') return result;
    }
    return result;
  }

  /** The data that the top's origin leads to; `missing`, the errno of the path, where that finds nothing. */
  private openOrigin({ top }: Node, missing: number): Data | number {
    if (!hasDigest(top.layer.getxattr(top, this.xattrs.metacopy))) return missing;
    const value = top.layer.getxattr(top, this.xattrs.origin);
    const origin = value && parseOrigin(value);
    const data = origin && this.origins.open(origin);
    if (data === -EPERM)
      throw new ErrnoError(-missing, 'data can be found by its origin alone: CAP_DAC_READ_SEARCH is missing');
    if (data === undefined || typeof data === 'number') return missing;
    this.foundByOrigin.add(data);
    return data;
  }

  /**
   * Checks a metacopy file's data, which may have been open for a while, against the digest of the xattr.
   * Throws ErrnoError EIO where it is wrong, or missing and required. Source: kernel ovl_validate_verity.
   */
  verify(node: Node, data: Data): void {
    if (node.data === undefined || (this.verity === 'off' && !this.foundByOrigin.has(data))) return;
    const { top } = node;
    const digest = parseDigest(top.layer.getxattr(top, this.xattrs.metacopy) ?? new Uint8Array(0));
    if (digest === undefined) {
      if (this.verity === 'require') throw new ErrnoError(EIO, `ENOVERITY: ino ${node.ino} has no digest`);
      return;
    }
    const found = this.digestOf(data, digest.algorithm);
    if (Buffer.compare(found, digest.bytes) !== 0) {
      const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
      throw new ErrnoError(EIO, `EWRONGVERITY: data is ${hex(found)}, its metacopy says ${hex(digest.bytes)}`);
    }
  }

  private digestOf(data: Data, algorithm: Digest['algorithm']): Uint8Array {
    const version = data.version;
    const key = `${algorithm} ${version}`;
    const known = version === '' ? undefined : this.measured.get(key);
    if (known) return known;
    const digest = digestByKernel(data, algorithm) ?? digestByUs(data, algorithm);
    if (version !== '' && version === data.version) this.measured.set(key, digest); // else it changed meanwhile
    return digest;
  }
}

/** What the filesystem of the object has measured; undefined where it has no fs-verity or another algorithm. */
function digestByKernel(data: Data, algorithm: Digest['algorithm']): Uint8Array | undefined {
  if (data.fd < 0) return undefined;
  const { number, digestBytes } = ALGORITHMS[algorithm];
  const answer = new Uint8Array(FsverityDigest.digest + digestBytes);
  const length = native.measureVerity(data.fd, answer);
  if (length !== answer.length || answer[FsverityDigest.digest_algorithm] !== number) return undefined;
  return answer.subarray(FsverityDigest.digest);
}

/** struct fsverity_digest. Source: linux/fsverity.h. */
const FsverityDigest = { digest_algorithm: 0 /* u16 */, digest_size: 2 /* u16 */, digest: 4 } as const;

function digestByUs(data: Data, algorithm: Digest['algorithm']): Uint8Array {
  const read = (out: Uint8Array, at: number, length: number, position: number): number =>
    data.read(out, at, length, position);
  return measure(read, data.sizeBytes, { ...DEFAULTS, algorithm });
}
