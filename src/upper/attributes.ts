/** Changes attributes and extended attributes. */
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP, EPERM } from '../sys/errno.ts';
import { changeMode, removeXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isRegular, isSymlink } from '../sys/stat.ts';
import { AT_EMPTY_PATH, type Times, timesOf } from '../sys/statx.ts';
import { copyUp } from './copy-up.ts';
import type { UpperNode } from './node.ts';
import type { Upper } from './upper.ts';

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

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o10;
const CAPABILITY: ByteString = 'security.capability';
/** uid or gid that stays. */
const KEEP = -1;

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
  const found = upper.descriptor(node);
  let result = 0;
  if (uid !== undefined || gid !== undefined) result = upper.giveTo(found, uid ?? KEEP, gid ?? KEEP);
  if (result === 0 && mode !== undefined)
    result = isSymlink(node.top.mode) ? -EOPNOTSUPP : changeMode(found, mode & 0o7777);
  if (result === 0 && times) result = native.utimensat(found, '', timesOf(times), AT_EMPTY_PATH);
  return result;
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
 * Takes set-user-ID, set-group-ID and capabilities from a file. Source: kernel setattr_should_drop_suidgid: set-group-ID without
 * group execution means something else to members of the group.
 * @param callerGid the group of who changes the file, if it is known; other groups of the caller are not
 */
export function killPrivileges(upper: Upper, node: UpperNode, callerGid?: number): void {
  const { mode, gid } = upper.overlay.attr(node);
  const isStranger = callerGid !== undefined && callerGid !== gid;
  const kept = mode & ~(S_ISUID | ((mode & S_IXGRP) !== 0 || isStranger ? S_ISGID : 0));
  if (kept !== mode) changeMode(upper.descriptor(node), kept & 0o7777);
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
  copyUp(upper, node, 'attributes');
  return upper.layer.setXattr(node.top, node.openFd, stored, value, flags);
}

/** Removes an xattr. @returns as changeXattr; -ENODATA if there is none, and then nothing is copied up */
export function dropXattr(upper: Upper, node: UpperNode, name: ByteString): number {
  const stored = upper.overlay.rules.xattrs.stored(name);
  if (typeof stored === 'number') return stored;
  if (node.protection !== 0) return -EPERM;
  if (!node.isUpper && node.top.layer.xattrBytes(node.top, stored) < 0) return -ENODATA;
  copyUp(upper, node, 'attributes');
  return removeXattr(upper.descriptor(node), stored);
}
