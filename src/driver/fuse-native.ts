/**
 * The second transport: the npm package fuse-native, a binding to libfuse 2, served on the main thread.
 *
 * It is slower than ours and shows less, for lack of words in its interface:
 *
 *     names, link targets   UTF-8 only; others are listed garbled, and asking for them is EILSEQ
 *     times                 milliseconds, and nothing before 1970
 *     st_ino                32 bits
 *     statfs                32 bits a number
 *     file data             as many bytes as stat says, though an object in a data-only layer may have more or fewer
 *     POSIX ACLs            do not count: permissions are those of the mode bits, as with `noacl`
 *     trusted.* xattrs      listed for every user, if for any; their values are for root alone
 *     lseek                 a file is one piece of data, without holes
 *     mount points          a directory that is one already is refused
 *
 * Sources: fuse-native 2.2.6, index.js and fuse-native.c; libfuse 2.9, lib/fuse.c and lib/mount.c.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { FuseMountOptions, MountFlag } from '../fuse/mount.ts';
import { mountAt, readMounts } from '../fuse/mountinfo.ts';
import type { End } from '../fuse/session.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Name, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ENOSYS, ErrnoError } from '../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace } from '../sys/privileges.ts';
import { Backing } from './backing.ts';
import { cachePolicy } from './cache.ts';
import { Files } from './files.ts';
import type { DriverOptions } from './options.ts';
import { PathOperations } from './path-operations.ts';
import { exactText } from './paths.ts';

/** Files kept open after their last close. */
const IDLE_FILES_MAX = 256;
/** The binding cuts longer texts off. */
const TEXT_BYTES_MAX = 1023;
/** How often to see whether the connection is still there: fuse-native has no word for its end. */
const LOOK_MS = 50;

/**
 * The class that fuse-native exports, with three of its inner methods, which we replace: its options have no read-only
 * mount, and its way with xattrs replies more bytes than the caller has room for.
 */
interface FuseNative {
  mount(done: (error: (Error & { errno?: number }) | null) => void): void;
  /** The one argument for libfuse. */
  _fuseOptions: () => string;
  _op_getxattr: (signal: Signal, path: string, name: string, out: Buffer) => void;
  _op_listxattr: (signal: Signal, path: string, out: Buffer) => void;
}
type FuseNativeClass = new (mountpoint: string, operations: object, options: { timeout: false }) => FuseNative;
/** Ends an operation: a count or a negative errno, and the memory that goes back to libfuse. */
type Signal = (result: number, memory: ArrayBufferLike) => void;

/** A mount that fuse-native serves. Its process stays alive until it is told to exit, even after the end. */
export class FuseNativeMount {
  /** Settles when the connection is over. The overlay is closed then. */
  readonly ended: Promise<End>;

  private constructor(ended: Promise<End>) {
    this.ended = ended;
  }

  /**
   * Mounts at an absolute path, and serves. The mount is taken away by unmounting, as any other. No blocking call of
   * this thread may touch it.
   * @param log gets a line for each operation that failed for an unexpected reason
   * Throws ErrnoError: ENOSYS where fuse-native does not load, EINVAL for what it can not do, EIO where it can not mount.
   */
  static async mount(
    overlay: Overlay,
    mountpoint: Name,
    { fuse, driver }: { fuse: FuseMountOptions; driver: DriverOptions },
    log: (line: string) => void,
  ): Promise<FuseNativeMount> {
    if (driver.passthrough === 'on') throw new ErrnoError(EINVAL, 'passthrough=on: not with transport=fuse-native');
    const target = exactText(mountpoint);
    if (target === undefined || mountpoint.length > TEXT_BYTES_MAX) {
      throw new ErrnoError(EINVAL, `${printable(mountpoint)}: not UTF-8, or too long for transport=fuse-native`);
    }
    const files = new Files(overlay, new Backing(-1, false, log), IDLE_FILES_MAX);
    const listsTrusted = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
    const operations = new PathOperations(overlay, files, listsTrusted, log);
    const before = devices();
    await connect(target, operations, libfuseOptions(overlay, fuse, driver));
    const device = devices().find(descriptor => !before.includes(descriptor));
    const number = mountAt(readMounts(), mountpoint)?.device;
    const ended = disconnected(device).then((): End => {
      files.close();
      overlay.close();
      return readMounts().some(mount => mount.device === number) ? 'aborted' : 'unmounted';
    });
    return new FuseNativeMount(ended);
  }
}

/** Settles when the kernel has greeted libfuse. */
async function connect(mountpoint: string, operations: PathOperations, options: string): Promise<void> {
  const fuse = new (load())(mountpoint, operations, { timeout: false });
  fuse._fuseOptions = () => options;
  fuse._op_getxattr = (signal, path, name, out) => signal(operations.getxattr(path, name, out), out.buffer);
  fuse._op_listxattr = (signal, path, out) => signal(operations.listxattr(path, out), out.buffer);
  const error = await new Promise<Parameters<Parameters<FuseNative['mount']>[0]>[0]>(done => fuse.mount(done));
  if (error) throw new ErrnoError(Math.abs(error.errno ?? EIO), `fuse-native: mount ${mountpoint}: ${error.message}`);
}

/** Loaded when it is wanted: it is an optional dependency, and needs a library that may be missing, too. */
function load(): FuseNativeClass {
  try {
    return createRequire(import.meta.url)('fuse-native');
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new ErrnoError(ENOSYS, `transport=fuse-native needs the npm package fuse-native and libfuse 2: ${reason}`);
  }
}

/** The one argument that libfuse gets. The source of the mount comes last and is cut where it is too long. */
function libfuseOptions(overlay: Overlay, fuse: FuseMountOptions, driver: DriverOptions): string {
  const { entrySeconds, attrSeconds, negativeSeconds } = cachePolicy(overlay, driver);
  const options = [
    'ro',
    'use_ino',
    'default_permissions',
    ...(fuse.allowOther ? ['allow_other'] : []),
    ...(fuse.maxReadBytes === undefined ? [] : [`max_read=${fuse.maxReadBytes}`]),
    ...(driver.debug ? ['debug'] : []),
    ...mountFlagNames(fuse.flags),
    `entry_timeout=${seconds(entrySeconds)}`,
    `attr_timeout=${seconds(attrSeconds)}`,
    `negative_timeout=${seconds(negativeSeconds)}`,
    `subtype=${escaped(fuse.subtype)}`,
  ];
  return shortened(`-o${options.join(',')},fsname=${escaped(fuse.fsname)}`);
}

/** libfuse 2 forces nosuid and nodev unless told otherwise, and knows no finer access times. */
function mountFlagNames(flags: readonly MountFlag[]): string[] {
  const known = flags.filter(flag => flag === 'noexec' || flag === 'noatime' || flag === 'sync' || flag === 'dirsync');
  return [...known, flags.includes('nosuid') ? 'nosuid' : 'suid', flags.includes('nodev') ? 'nodev' : 'dev'];
}

/** The kernel counts in jiffies, libfuse in doubles; 136 years are long enough. */
const seconds = (wanted: number): number => Math.min(wanted, 2 ** 32 - 1);
const escaped = (name: Name): string => Buffer.from(name, 'latin1').toString('utf8').replace(/[\\,]/g, '\\$&');

function shortened(text: string): string {
  const bytes = Buffer.from(text, 'utf8').subarray(0, TEXT_BYTES_MAX);
  return bytes.toString('utf8').replace(/\ufffd$/, '');
}

/** The descriptors of /dev/fuse that this process has open. */
function devices(): string[] {
  return readdirSync('/proc/self/fd').filter(isDevice);
}

function isDevice(descriptor: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`) === '/dev/fuse';
  } catch {
    return false; // it was the one that listed the directory
  }
}

/** Settles when libfuse has closed its descriptor: every request is answered, and none will come. */
function disconnected(descriptor: string | undefined): Promise<void> {
  return new Promise(resolve => {
    const timer = setInterval(() => {
      if (descriptor !== undefined && isDevice(descriptor)) return;
      clearInterval(timer);
      resolve();
    }, LOOK_MS);
  });
}
