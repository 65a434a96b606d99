/** The operations of FUSE that change the data of files in the upper layer, by their descriptors. */
import type { FileRange, Nodeid } from '../../fuse/filesystem.ts';
import { EBADF, EFBIG, EOPNOTSUPP, EPERM, ESTALE } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { isRegular } from '../../sys/stat.ts';
import { killPrivileges } from '../../upper/attributes.ts';
import type { UpperNode } from '../../upper/node.ts';
import type { Upper } from '../../upper/upper.ts';
import type { UpperFiles } from './files.ts';
import { forbidsFallocate } from './forbidden.ts';
import type { WritableNodes } from './nodes.ts';

/** The reply to COPY_FILE_RANGE has 32 bits, and one call must not take long. */
const COPY_BYTES_MAX = 1 << 30;

export class FileChanges {
  protected readonly upper: Upper;
  protected readonly nodes: WritableNodes;
  protected readonly files: UpperFiles;

  constructor(upper: Upper, nodes: WritableNodes, files: UpperFiles) {
    this.upper = upper;
    this.nodes = nodes;
    this.files = files;
  }

  /** Calls `use` with a descriptor for the node's data in the upper layer; undefined if its data is not there. */
  withFile(nodeid: Nodeid, node: UpperNode, use: (fd: number) => number): number | undefined {
    const file = this.files.of(nodeid);
    if (file) return use(file.fd);
    if (!node.isComplete || !isRegular(node.top.mode)) return undefined;
    const fd = this.upper.layer.openFile(node.top, false); // it was opened when its data was still below
    if (fd < 0) return fd;
    const result = use(fd);
    native.close(fd);
    return result;
  }

  write(nodeid: Nodeid, fh: number, position: number, bytes: Uint8Array, killsPrivileges: boolean): number {
    const file = this.files.get(fh) ?? this.files.of(nodeid);
    if (file === undefined) return -EBADF;
    if (!this.files.mayWriteAt(fh, position)) return -EPERM;
    const written = native.pwrite(file.fd, bytes, 0, bytes.length, position);
    if (written >= 0 && killsPrivileges) killPrivileges(this.upper, file.node);
    return written;
  }

  fallocate(_nodeid: Nodeid, fh: number, mode: number, offset: number, length: number): number {
    const file = this.files.get(fh);
    if (file === undefined) return -EBADF;
    if (forbidsFallocate(file.node, mode)) return -EPERM;
    if (offset + length > Number.MAX_SAFE_INTEGER) return -EFBIG;
    return native.fallocate(file.fd, mode, offset, length);
  }

  copyFileRange(from: FileRange, to: FileRange, length: number): number {
    const [source, target] = [this.files.of(from.nodeid), this.files.get(to.fh)];
    if (target === undefined) return -EBADF;
    if (target.node.protection !== 0) return -EPERM;
    if (source === undefined) return -EOPNOTSUPP; // the kernel reads and writes instead, so that reads are checked
    const bytes = Math.min(length, COPY_BYTES_MAX);
    if (to.offset + bytes > Number.MAX_SAFE_INTEGER) return -EFBIG;
    if (from.offset + bytes > Number.MAX_SAFE_INTEGER) return 0; // no file is as long
    return native.copyFileRange(source.fd, from.offset, target.fd, to.offset, bytes);
  }

  fsync(_nodeid: Nodeid, fh: number, dataOnly: boolean): number {
    const file = this.files.get(fh);
    return file === undefined ? 0 : this.upper.sync(file.fd, dataOnly);
  }

  fsyncdir(nodeid: Nodeid, dataOnly: boolean): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (!node.isUpper || this.upper.rules.volatile) return 0;
    const fd = this.upper.layer.openDirectory(node.top);
    if (fd < 0) return fd;
    const result = this.upper.sync(fd, dataOnly);
    native.close(fd);
    return result;
  }
}
