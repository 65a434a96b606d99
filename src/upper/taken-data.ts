/** Metacopy files of the upper layer that get the data which is below. */
import type { ByteString } from '../sys/bytes.ts';
import { setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import type { Attr } from '../sys/stat.ts';
import { AT_EMPTY_PATH, timesOf } from '../sys/statx.ts';
import type { UpperNode } from './node.ts';
import type { Upper } from './upper.ts';

const CAPABILITY: ByteString = 'security.capability';

/**
 * A metacopy file whose data is written to it. Nobody has changed it yet, but writing sets its times and drops its capability, as
 * the kernel does with each file. Source: kernel ovl_copy_up_meta_inode_data.
 */
export class TakenData {
  private readonly upper: Upper;
  private readonly node: UpperNode;
  private readonly attr: Attr;
  private readonly capability: Uint8Array | undefined;

  /** Must be made before anything is written. */
  constructor(upper: Upper, node: UpperNode) {
    this.upper = upper;
    this.node = node;
    this.attr = upper.overlay.attr(node);
    this.capability = upper.layer.getxattr(node.top, CAPABILITY);
  }

  /** All bytes are there and checked: the file has them itself from now on. Throws ErrnoError that names the node. */
  done(): void {
    this.restore(this.upper.descriptor(this.node));
    ownsData(this.upper, this.node);
  }

  /** Drops what was written. The data is still below. @param fd of the file, for writing */
  failed(fd: number): void {
    native.ftruncate(fd, 0);
    native.ftruncate(fd, this.attr.size);
    this.restore(fd);
  }

  private restore(fd: number): void {
    const { attr, capability, upper, node } = this;
    const set = capability ? setXattr(fd, CAPABILITY, capability, 0) : 0;
    native.utimensat(fd, '', timesOf(attr), AT_EMPTY_PATH);
    if (set < 0) throw upper.failure(set, node, `copy-up, xattr ${CAPABILITY} of`);
  }
}

/** Makes a metacopy file of the upper layer one that has its data itself. Throws ErrnoError that names the node. */
export function ownsData(upper: Upper, node: UpperNode): void {
  const unmarked = upper.unmark(node, upper.overlay.rules.xattrs.metacopy);
  if (unmarked < 0) throw upper.failure(unmarked, node, 'copy-up of');
  node.data = undefined;
  node.origin = undefined;
}
