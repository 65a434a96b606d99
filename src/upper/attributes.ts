/** Changes attributes and extended attributes. */
import { isOverridden } from '../layers/stored-stat.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP, EPERM } from '../sys/errno.ts';
import { removeXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isRegular } from '../sys/stat.ts';
import { AT_EMPTY_PATH, type Times, timesOf } from '../sys/statx.ts';
import { copyUp } from './copy-up.ts';
import type { UpperNode } from './node.ts';
import { type Upper, withoutPrivileges } from './upper.ts';

/** Attributes to change; absent ones stay. */
export interface AttrChange {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly size?: number | undefined;
  readonly times?: Times | undefined;
  /** Whether the file loses set-user-ID, set-group-ID and capabilities, or these alone, because its data changes. */
  readonly killsPrivileges?: boolean | 'capabilities' | undefined;
  /** The group of the caller, for that; undefined for root, who may be in any. */
  readonly callerGid?: number | undefined;
}

const CAPABILITY: ByteString = 'security.capability';

/**
 * Changes attributes.
 * @param fd the node's file if it is open for writing, otherwise -1
 * @returns 0 or a negative errno. Throws as copyUp does.
 */
export function setAttributes(upper: Upper, node: UpperNode, change: AttrChange, fd: number): number {
  const { size } = change;
  if (size !== undefined && !isRegular(node.top.mode)) return -EINVAL;
  copyUp(upper, node, size === undefined ? 'attributes' : size === 0 ? 'nothing' : 'data');
  if (size !== undefined) {
    const cut = resize(upper, node, size, fd);
    if (cut < 0) return cut;
  }
  if (change.killsPrivileges === 'capabilities') dropCapabilities(upper, node);
  else if (change.killsPrivileges) killPrivileges(upper, node, change.callerGid);
  return changeInode(upper, node, change);
}

function changeInode(upper: Upper, node: UpperNode, { mode, uid, gid, times }: AttrChange): number {
  const isOther = uid !== undefined || gid !== undefined || mode !== undefined;
  const changed = isOther ? upper.changeStat(node, { uid, gid, mode }) : 0;
  const isGiven = (uid ?? gid) !== undefined && isRegular(node.top.mode);
  if (isGiven && upper.layer.storesStats) dropCapabilities(upper, node); // chown(2) of the inode would do that
  return changed === 0 && times ? native.utimensat(upper.descriptor(node), '', timesOf(times), AT_EMPTY_PATH) : changed;
}

function resize(upper: Upper, node: UpperNode, size: number, fd: number): number {
  if (fd >= 0) return native.ftruncate(fd, size);
  const opened = upper.layer.openFile(node.top);
  if (opened < 0) return opened;
  const result = native.ftruncate(opened, size);
  native.close(opened);
  return result;
}

/**
 * Takes set-user-ID, set-group-ID and capabilities from a file. Source: kernel setattr_should_drop_suidgid.
 * @param callerGid the group of who changes the file, if it is known; other groups of the caller are not
 */
export function killPrivileges(upper: Upper, node: UpperNode, callerGid?: number): void {
  const { mode, gid } = upper.overlay.attr(node);
  const kept = withoutPrivileges(mode, callerGid !== undefined && callerGid !== gid);
  if (kept !== mode) upper.changeStat(node, { mode: kept });
  dropCapabilities(upper, node);
}

function dropCapabilities(upper: Upper, node: UpperNode): void {
  if (upper.layer.xattrBytes(node.top, CAPABILITY) >= 0) removeXattr(upper.descriptor(node), CAPABILITY);
}

/**
 * Sets an xattr. @param flags XATTR_CREATE and XATTR_REPLACE
 * @returns 0 or a negative errno. Throws as copyUp does.
 */
export function changeXattr(upper: Upper, node: UpperNode, name: ByteString, value: Uint8Array, flags: number): number {
  const stored = upper.overlay.rules.xattrs.stored(name);
  if (typeof stored === 'number') return stored;
  if (node.protection !== 0) return -EPERM;
  if (upper.layer.storesStats && isOverridden(stored)) return -EOPNOTSUPP;
  copyUp(upper, node, 'attributes');
  return upper.layer.setXattr(node.top, node.openFd, stored, value, flags);
}

/** Removes an xattr. @returns as changeXattr; -ENODATA if there is none, and then nothing is copied up */
export function dropXattr(upper: Upper, node: UpperNode, name: ByteString): number {
  const stored = upper.overlay.rules.xattrs.stored(name);
  if (typeof stored === 'number') return stored;
  if (node.protection !== 0) return -EPERM;
  if (upper.layer.storesStats && isOverridden(stored)) return -EOPNOTSUPP;
  if (!node.isUpper && node.top.layer.xattrBytes(node.top, stored) < 0) return -ENODATA;
  copyUp(upper, node, 'attributes');
  return removeXattr(upper.descriptor(node), stored);
}
