/**
 * st_ino of objects in the upper layer: that of the lower object that a copy was made from, so that it stays the same when an
 * object is copied up, renamed, and found again by another mount. Source: kernel fs/overlayfs/inode.c, ovl_getattr.
 */
import type { Inode, Layer } from '../layers/layer.ts';
import type { Origin } from '../sys/handles.ts';
import { isDirectory, S_IFMT } from '../sys/stat.ts';
import type { Found } from './lookup.ts';
import { parseOrigin } from './origin.ts';
import type { OverlayXattrs } from './xattrs.ts';

export class OriginInodes {
  private readonly layers: readonly Layer[];
  private readonly xattrs: OverlayXattrs;

  /** @param layers all layers below the upper one */
  constructor(layers: readonly Layer[], xattrs: OverlayXattrs) {
    this.layers = layers;
    this.xattrs = xattrs;
  }

  /** The lower object that an object in the upper layer is a copy of; undefined if there is none, or if it is not known. */
  of({ stack }: Pick<Found, 'stack'>): Inode | undefined {
    const [top, below] = stack;
    if (top === undefined || isDirectory(top.mode)) return below;
    const value = top.layer.getxattr(top, this.xattrs.origin);
    const origin = value && parseOrigin(value);
    const found = origin && this.find(origin);
    return found && (found.mode & S_IFMT) === (top.mode & S_IFMT) ? found : undefined;
  }

  /** The lower object of an origin. Several filesystems may have one uuid, or none: then no object is found. */
  find(origin: Origin): Inode | undefined {
    let found: Inode | undefined;
    for (const layer of this.layers) {
      const inode = layer.inodeOf?.(origin);
      if (inode === undefined || inode.layer.filesystem === found?.layer.filesystem) continue;
      if (found !== undefined) return undefined;
      found = inode;
    }
    return found;
  }
}
