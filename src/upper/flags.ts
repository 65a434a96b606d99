/** Sets the flags of chattr(1). Source: kernel fs/overlayfs/inode.c, ovl_fileattr_set. */
import { ENODATA, EOPNOTSUPP, EPERM } from '../sys/errno.ts';
import { removeXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import { copyUp } from './copy-up.ts';
import type { UpperNode } from './node.ts';
import { type FlagsKind, protattrOf, protectionIn, withoutProtection } from './protection.ts';
import type { Upper } from './upper.ts';

/**
 * Sets the flags of chattr(1), or struct fsxattr.
 * @param mayForbid whether the kernel has checked that the caller may change those that forbid changes
 * @returns 0 or a negative errno. Throws as copyUp does.
 */
export function setFileFlags(
  upper: Upper,
  node: UpperNode,
  kind: FlagsKind,
  value: Uint8Array,
  mayForbid: boolean,
): number {
  const protection = protectionIn(kind, value);
  if (protection !== node.protection && !mayForbid) return -EOPNOTSUPP;
  copyUp(upper, node, 'attributes');
  const { layer } = upper;
  const fd = isDirectory(node.top.mode) ? layer.openDirectory(node.top) : layer.openFile(node.top, false);
  if (fd < 0) return fd;
  const others = withoutProtection(kind, value);
  const result = kind === 'flags' ? native.setFileFlags(fd, others) : native.setFileXattr(fd, others);
  native.close(fd);
  return result < 0 || protection === node.protection ? result : protect(upper, node, protection);
}

function protect(upper: Upper, node: UpperNode, protection: number): number {
  const { layer, overlay } = upper;
  const { protattr } = overlay.rules.xattrs;
  const result =
    protection === 0
      ? removeXattr(upper.descriptor(node), protattr)
      : layer.setXattr(node.top, node.openFd, protattr, protattrOf(protection));
  if (result < 0 && result !== -ENODATA) return result === -EOPNOTSUPP ? -EPERM : result;
  node.protection = protection;
  return 0;
}
