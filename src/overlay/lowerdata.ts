/** Finds a file's data when the file is opened, and not earlier. */
import type { Data, Inode, Layer } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EINTR, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM, ErrnoError, errnoName } from '../sys/errno.ts';
import { hasDigest } from './metacopy.ts';
import type { Node } from './node.ts';
import { parseOrigin } from './origin.ts';
import { OriginFinder } from './origin-finder.ts';
import type { Trace } from './trace.ts';
import type { OverlayXattrs } from './xattrs.ts';

/** Errors that leave open whether the path has data: after one of them, the data is not searched for by origin. */
const PASSING: readonly number[] = [-EINTR, -ENOMEM, -ENFILE, -EMFILE];

const NO_PERMISSION =
  'data can be found only by its origin, which needs CAP_DAC_READ_SEARCH, or an index of its layer: `lowerdata index DIR`';

export class Lowerdata {
  private readonly dataLayers: readonly Layer[];
  private readonly origins: OriginFinder;
  private readonly xattrs: OverlayXattrs;
  /** Whether the error NO_PERMISSION was thrown before: once is enough. */
  private hasReportedPermission = false;
  private readonly foundByOrigin = new WeakSet<Data>();

  constructor(layers: readonly Layer[], dataLayers: readonly Layer[], xattrs: OverlayXattrs) {
    this.dataLayers = dataLayers;
    this.origins = new OriginFinder([...dataLayers, ...layers]);
    this.xattrs = xattrs;
  }

  /** The data of a regular file, or a negative errno; see Overlay.find. A failure is not remembered. */
  find(node: Node, trace?: Trace): Data | number {
    const { top, data: place } = node;
    if (typeof place !== 'string') {
      trace?.rule('A1');
      return place === undefined ? top.layer.open(top) : place.layer.open(place);
    }
    const data = this.openPath(place, trace);
    if (typeof data !== 'number' || node.origin === undefined || PASSING.includes(data)) return data;
    if (place !== '') trace?.rule('P-O4');
    return this.openOrigin(node.origin, data, trace);
  }

  /** Whether data was found by its origin: then only its digest proves that it is the right data. */
  cameByOrigin(data: Data): boolean {
    return this.foundByOrigin.has(data);
  }

  /** The regular file at the path in the first data-only layer that has one; otherwise the errno of the last layer. */
  private openPath(path: ByteString, trace?: Trace): Data | number {
    let result: Data | number = -ENOENT;
    if (path === '') return result;
    for (const layer of this.dataLayers) {
      trace?.layer(layer.path, path);
      result = layer.openPath(path);
      trace?.rule('A2', typeof result === 'number' ? errnoName(result) : 'a regular file: its data');
      if (typeof result !== 'number') return result;
    }
    trace?.rule('A4', errnoName(result));
    return result;
  }

  /**
   * The data that the origin of a metacopy inode names. @returns `missing`, the errno of the lookup by path, if the origin finds nothing
   * Throws ErrnoError with that errno, once, if this process may not open files by handle.
   */
  private openOrigin(copied: Inode, missing: number, trace?: Trace): Data | number {
    const value = hasDigest(copied.layer.getxattr(copied, this.xattrs.metacopy))
      ? copied.layer.getxattr(copied, this.xattrs.origin)
      : undefined;
    const origin = value && parseOrigin(value);
    if (origin === undefined) trace?.rule('P-O1');
    const data = origin && this.origins.open(origin);
    if (origin) trace?.rule('P-O5', typeof data === 'number' ? errnoName(data) : data?.place);
    if (data === -EPERM && !this.hasReportedPermission) {
      this.hasReportedPermission = true;
      throw new ErrnoError(-missing, NO_PERMISSION);
    }
    if (data === undefined || typeof data === 'number') return missing;
    this.foundByOrigin.add(data);
    return data;
  }
}
