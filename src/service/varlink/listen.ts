/** Sockets that a service listens at: at a path, or from the service manager. */
import { constants, fstatSync, lstatSync, openSync, rmSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { byteStringFromText } from '../../sys/bytes.ts';
import {
  EACCES,
  EBUSY,
  ECONNREFUSED,
  EEXIST,
  EINVAL,
  ErrnoError,
  errnoText,
  must,
  systemError,
} from '../../sys/errno.ts';
import { pathOfDescriptor } from '../../sys/found.ts';
import { LOCK_EX } from '../../sys/locks/flock.ts';
import { native } from '../../sys/native.ts';
import { changeableOnTheWay } from '../../sys/security/changeable.ts';
import { SOCK_STREAM } from '../../sys/sockets/types.ts';
import { AT_FDCWD } from '../../sys/statx.ts';

const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_RDWR } = constants;

/**
 * Listens at a path. What a service that has died left there is replaced.
 * @param mode of the socket: who may write to it may connect
 * @returns the socket's descriptor
 * Throws ErrnoError: EACCES if another user could put another socket there, EBUSY if a service answers there, EEXIST if there is
 * something else.
 */
export function listenAt(path: string, mode: number): number {
  let [directory, lock] = [-1, -1];
  try {
    directory = openDirectory(dirname(path));
    const inside = `${pathOfDescriptor(directory)}/${basename(path)}`;
    lock = openSync(`${inside}.lock`, O_CREAT | O_RDWR | O_NOFOLLOW, 0o600);
    must(native.flock(lock, LOCK_EX), path); // of two services that start, one sees the other
    removeStale(path, inside);
    const before = process.umask(0o777 & ~mode);
    try {
      return must(native.listenStream(byteStringFromText(inside)), path);
    } finally {
      process.umask(before);
    }
  } catch (error) {
    throw systemError(error, path);
  } finally {
    native.close(lock);
    native.close(directory);
  }
}

function openDirectory(path: string): number {
  const changeable = changeableOnTheWay(byteStringFromText(path), [0, process.geteuid?.() ?? 0], []);
  if (changeable) throw new ErrnoError(EACCES, `${path}: ${changeable}`);
  return must(native.openat2(AT_FDCWD, byteStringFromText(path), O_DIRECTORY, 0), path);
}

/** @param inside the path by which it is reached */
function removeStale(path: string, inside: string): void {
  const stats = lstatSync(inside, { throwIfNoEntry: false });
  if (!stats) return;
  if (!stats.isSocket()) throw new ErrnoError(EEXIST, `${path} exists, and is no socket`);
  const fd = native.connectSocket(byteStringFromText(inside), SOCK_STREAM);
  if (fd >= 0) native.close(fd);
  if (fd !== -ECONNREFUSED) throw new ErrnoError(EBUSY, `${path}: a service listens there (${errnoText(fd)})`);
  rmSync(inside);
}

/** The first descriptor that a service manager passes. Source: sd_listen_fds(3), SD_LISTEN_FDS_START. */
const FIRST = 3;

/**
 * The listening sockets that the service manager has passed, by their names (FileDescriptorName= of systemd.socket(5)). Programs
 * that this process starts do not inherit them (Node.js sees to it when it starts), nor the variables.
 * @returns undefined if nothing was passed to this process
 * Throws ErrnoError, EINVAL, if the variables or the descriptors are not as they should be.
 */
export function passedSockets(environment: NodeJS.ProcessEnv = process.env): ReadonlyMap<string, number> | undefined {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  if (LISTEN_FDS === undefined || LISTEN_PID !== `${process.pid}`) return undefined;
  if (!/^[1-9][0-9]{0,4}$/.test(LISTEN_FDS)) throw new ErrnoError(EINVAL, `LISTEN_FDS=${LISTEN_FDS}`);
  const fds = Array.from({ length: Number(LISTEN_FDS) }, (_, i) => FIRST + i);
  for (const fd of fds) if (!isSocket(fd)) throw new ErrnoError(EINVAL, `LISTEN_FDS: descriptor ${fd} is no socket`);
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  return new Map(fds.map((fd, i) => [names[i] ?? 'unknown', fd]));
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}
