/**
 * Access to the object of a descriptor, including O_PATH descriptors, which few system calls accept. Other calls get a path
 * through /proc/self/fd. That path leads to the object even if it is a symlink, and even if the object was renamed or replaced.
 */
import type { ByteString } from './bytes.ts';
import { ENOSYS, ERANGE } from './errno.ts';
import { native } from './native.ts';

// Source: linux/fcntl.h
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_SYMLINK_FOLLOW = 0x400;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;

const DESCRIPTORS = '/proc/self/fd';
/**
 * Descriptor of DESCRIPTORS: paths relative to it take half as long. undefined before its first use, negative if it cannot be
 * opened.
 */
let descriptors: number | undefined;
/** Whether the kernel has getxattrat(2) and listxattrat(2), since Linux 6.13. */
let hasXattrAt = true;

/** A path of the object. If it is a directory, names can be appended. */
export const pathOfDescriptor = (fd: number): ByteString => `${DESCRIPTORS}/${fd}`;

/** Opens the object again with other flags. Returns a descriptor or -errno; -ENOENT if /proc is not mounted. */
export function reopen(fd: number, flags: number): number {
  const from = openDescriptors();
  return from < 0 ? native.openat2(AT_FDCWD, pathOfDescriptor(fd), flags, 0) : native.openat2(from, `${fd}`, flags, 0);
}

/** Reads an xattr of the object into `out`. Returns its size in bytes or -errno; -ENOENT if /proc is not mounted. */
export const getXattr = (fd: number, name: ByteString, out: Uint8Array): number =>
  withLittleFirst(out, room => {
    const length = throughDescriptors(from => native.getxattrat(from, `${fd}`, 0, name, room));
    return length === -ENOSYS ? native.getxattr(pathOfDescriptor(fd), name, room) : length;
  });

/** Reads the names of the object's xattrs into `out`, each ended by a NUL. Returns as getXattr does. */
export const listXattrs = (fd: number, out: Uint8Array): number =>
  withLittleFirst(out, room => {
    const length = throughDescriptors(from => native.listxattrat(from, `${fd}`, 0, room));
    return length === -ENOSYS ? native.listxattr(pathOfDescriptor(fd), room) : length;
  });

/**
 * Reads the names of the xattrs of a name in a directory, not following a symlink. Returns as listXattrs does; -ENOSYS before
 * Linux 6.13.
 */
export const listXattrsAt = (directory: number, name: ByteString, out: Uint8Array): number =>
  xattrAt(() => native.listxattrat(directory, name, AT_SYMLINK_NOFOLLOW, out));

/** Sets an xattr of the object; `flags` are XATTR_CREATE and XATTR_REPLACE. Returns 0 or -errno. */
export function setXattr(fd: number, name: ByteString, value: Uint8Array, flags: number): number {
  const result = throughDescriptors(from => native.setxattrat(from, `${fd}`, 0, name, value, flags));
  return result === -ENOSYS ? native.setxattr(pathOfDescriptor(fd), name, value, flags) : result;
}

/** Removes an xattr of the object. Returns 0 or -errno. */
export function removeXattr(fd: number, name: ByteString): number {
  const result = throughDescriptors(from => native.removexattrat(from, `${fd}`, 0, name));
  return result === -ENOSYS ? native.removexattr(pathOfDescriptor(fd), name) : result;
}

/** Sets the permission bits of the object. Returns 0 or -errno. */
export function changeMode(fd: number, mode: number): number {
  const from = openDescriptors();
  return from < 0 ? native.fchmodat(AT_FDCWD, pathOfDescriptor(fd), mode) : native.fchmodat(from, `${fd}`, mode);
}

/** Gives the object another name, which nothing has. Returns 0 or -errno. */
export function link(fd: number, directory: number, name: ByteString): number {
  const from = openDescriptors();
  if (from < 0) return native.linkat(AT_FDCWD, pathOfDescriptor(fd), directory, name, AT_SYMLINK_FOLLOW);
  return native.linkat(from, `${fd}`, directory, name, AT_SYMLINK_FOLLOW);
}

/** Calls getxattrat(2) or listxattrat(2) below DESCRIPTORS; -ENOSYS if that directory or the call is missing. */
function throughDescriptors(call: (from: number) => number): number {
  const from = openDescriptors();
  return from < 0 ? -ENOSYS : xattrAt(() => call(from));
}

/** Makes a call on xattrs by directory and name, and none ever again once the kernel has answered that it has none. */
function xattrAt(call: () => number): number {
  if (!hasXattrAt) return -ENOSYS;
  const length = call();
  hasXattrAt = length !== -ENOSYS;
  return length;
}

function openDescriptors(): number {
  descriptors ??= native.openat2(AT_FDCWD, DESCRIPTORS, O_PATH | O_DIRECTORY, 0);
  return descriptors;
}

const little = new Uint8Array(256);

/** Offers a small buffer first: the kernel allocates as much as it is offered, which takes longer than the answer. */
function withLittleFirst(out: Uint8Array, ask: (room: Uint8Array) => number): number {
  if (out.length <= little.length) return ask(out);
  const length = ask(little);
  if (length === -ERANGE) return ask(out);
  if (length > 0) out.set(little.subarray(0, length));
  return length;
}
