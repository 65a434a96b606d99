/** File handles, and the UUID of the filesystem that they belong to. */
import { type ByteString, byteStringOf } from './bytes.ts';
import { native } from './native.ts';

/** A file handle of name_to_handle_at(2). */
export interface Handle {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** An inode on some filesystem. */
export interface Origin {
  /** The 16 bytes of the filesystem's uuid; zeros if it has none. */
  readonly uuid: ByteString;
  readonly handle: Handle;
}

/** struct file_handle. Source: open_by_handle_at(2). */
const FileHandle = { handle_bytes: 0 /* u32 */, handle_type: 4 /* i32 */, f_handle: 8 } as const;
const HANDLE_BYTES_MAX = 128;
const UUID_BYTES = 16;
const AT_EMPTY_PATH = 0x1000;

/**
 * The handle of the object at a path, without following a final symlink; '' means `dirfd` itself. Returns -errno on failure;
 * -EOPNOTSUPP if the filesystem has no handles.
 */
export function readHandle(dirfd: number, path: ByteString): Handle | number {
  const out = new Uint8Array(FileHandle.f_handle + HANDLE_BYTES_MAX);
  const size = native.nameToHandleAt(dirfd, path, path === '' ? AT_EMPTY_PATH : 0, out);
  if (size < 0) return size;
  const type = new DataView(out.buffer).getInt32(FileHandle.handle_type, true);
  return { type, bytes: out.slice(FileHandle.f_handle, size) };
}

/**
 * Opens the object of a handle on the filesystem of a directory. Returns a descriptor or -errno; -EPERM if that is not allowed.
 */
export function openHandle(directory: number, { type, bytes }: Handle, flags: number): number {
  const handle = new Uint8Array(FileHandle.f_handle + bytes.length);
  const view = new DataView(handle.buffer);
  view.setUint32(FileHandle.handle_bytes, bytes.length, true);
  view.setInt32(FileHandle.handle_type, type, true);
  handle.set(bytes, FileHandle.f_handle);
  return native.openByHandleAt(directory, handle, flags);
}

/** The 16 bytes of a filesystem's UUID, by a descriptor of any object on it; zeros if it has none. */
export function readUuid(fd: number): ByteString {
  const bytes = new Uint8Array(UUID_BYTES);
  if (native.filesystemUuid(fd, bytes) < 0) native.btrfsUuid(fd, bytes); // if both fail, the bytes stay zero
  return byteStringOf(bytes);
}
