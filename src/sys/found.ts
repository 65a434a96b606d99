/**
 * The object that a descriptor stands for, one of O_PATH too, which few system calls take. The others get a path by way of
 * /proc/self/fd. It leads to that object, a symlink itself as well, whatever the object's name leads to by now.
 */
import type { ByteString } from './bytes.ts';
import { ENOSYS, ERANGE } from './errno.ts';
import { native } from './native.ts';

// linux/fcntl.h
const AT_FDCWD = -100;
const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;

const DESCRIPTORS = '/proc/self/fd';
/** DESCRIPTORS, open: from there the way to an object takes half as long. Not yet asked for, or negative: it cannot be opened. */
let descriptors: number | undefined;
/** Whether the kernel has getxattrat(2) and listxattrat(2): since Linux 6.13. */
let hasXattrAt = true;

/** A path of the object. Names below it are looked up in that directory. */
export const pathOfDescriptor = (fd: number): ByteString => `${DESCRIPTORS}/${fd}`;

/** Opens the object once more, with other flags: a descriptor or -errno; -ENOENT where /proc is missing. */
export function reopen(fd: number, flags: number): number {
  const from = openDescriptors();
  return from < 0 ? native.openat2(AT_FDCWD, pathOfDescriptor(fd), flags, 0) : native.openat2(from, `${fd}`, flags, 0);
}

/** An xattr of the object into `out`: its bytes, or -errno; -ENOENT where /proc is missing. */
export const getXattr = (fd: number, name: ByteString, out: Uint8Array): number =>
  withLittleFirst(out, room => {
    const from = hasXattrAt ? openDescriptors() : -1;
    const length = from < 0 ? -ENOSYS : native.getxattrat(from, `${fd}`, 0, name, room);
    if (length !== -ENOSYS) return length;
    hasXattrAt &&= from < 0;
    return native.getxattr(pathOfDescriptor(fd), name, room);
  });

/** The names of the object's xattrs, each ended by a NUL, likewise. */
export const listXattrs = (fd: number, out: Uint8Array): number =>
  withLittleFirst(out, room => {
    const from = hasXattrAt ? openDescriptors() : -1;
    const length = from < 0 ? -ENOSYS : native.listxattrat(from, `${fd}`, 0, room);
    if (length !== -ENOSYS) return length;
    hasXattrAt &&= from < 0;
    return native.listxattr(pathOfDescriptor(fd), room);
  });

function openDescriptors(): number {
  descriptors ??= native.openat2(AT_FDCWD, DESCRIPTORS, O_PATH | O_DIRECTORY, 0);
  return descriptors;
}

const little = new Uint8Array(256);

/** Offers little room first: the kernel allocates all that it is offered, which takes longer than the answer. */
function withLittleFirst(out: Uint8Array, ask: (room: Uint8Array) => number): number {
  if (out.length <= little.length) return ask(out);
  const length = ask(little);
  if (length === -ERANGE) return ask(out);
  if (length > 0) out.set(little.subarray(0, length));
  return length;
}
