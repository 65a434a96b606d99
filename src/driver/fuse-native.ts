/**
 * The second transport: the npm package fuse-native, a binding to libfuse 2, served on the main thread.
 *
 * It is slower than the built-in transport, and its interface cannot express everything:
 *
 *     names, link targets   UTF-8 only; others are listed garbled, and their lookup is EILSEQ
 *     times                 milliseconds, and nothing before 1970
 *     st_ino                32 bits
 *     statfs                32 bits for each number
 *     file data             as many bytes as stat says, though an object in a data-only layer may have more or fewer
 *     POSIX ACLs            not enforced: permissions are those of the mode bits, as with `noacl`
 *     trusted.* xattrs      listed for every user, or for none; only root can read their values
 *     lseek                 a file is one piece of data, without holes
 *     mount points          a directory that is one already is refused
 *
 * Sources: fuse-native 2.2.6, index.js and fuse-native.c; libfuse 2.9, lib/fuse.c and lib/mount.c.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { End } from '../fuse/device.ts';
import { type FuseMountOptions, type Mounter, type MountFlag, mounter } from '../fuse/mount.ts';
import type { MountPoint } from '../fuse/mount-point.ts';
import { mountAt, readMounts } from '../fuse/mountinfo.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { step } from '../overlay/step.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ENOSYS, ErrnoError } from '../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace, overflowIds } from '../sys/security/privileges.ts';
import { Backing } from './backing.ts';
import { type CachePolicy, cachePolicy, memoryFor } from './cache.ts';
import { Files } from './files.ts';
import type { DriverOptions } from './options.ts';
import { Owners } from './owners.ts';
import { PathOperations } from './path-operations.ts';
import { exactText } from './paths.ts';
import { type Restriction, restrictionsOf } from './restrictions.ts';

/** Number of files kept open after their last close. */
const IDLE_FILES_MAX = 256;
/** The longest text in bytes; the binding truncates longer ones. */
const TEXT_BYTES_MAX = 1023;
/** How long to wait for the kernel's first request. */
const GREETING_MS = 10_000;
/** How often to check that the connection is still open: fuse-native does not report its end. */
const LOOK_MS = 50;

/**
 * The class that fuse-native exports, with three of its internal methods that are replaced here. Its options have no read-only
 * mount, and its xattr methods reply more bytes than the caller has room for.
 */
interface FuseNative {
  mount(done: (error: Error | null) => void): void;
  /** Returns the single argument for libfuse. */
  _fuseOptions: () => string;
  _op_getxattr: (signal: Signal, path: string, name: string, out: Buffer) => void;
  _op_listxattr: (signal: Signal, path: string, out: Buffer) => void;
}
type FuseNativeClass = new (mountpoint: string, operations: object, options: { timeout: false }) => FuseNative;
/** Ends an operation with a count or a negative errno, and returns the memory to libfuse. */
type Signal = (result: number, memory: ArrayBufferLike) => void;

/** Opens a stack, mounts it once, and serves it. The process stays alive until it is asked to exit. */
export class FuseNativeServer {
  /** Settles when the connection has ended and the layers are closed. */
  readonly ended: Promise<End>;
  /** As in OverlayServer. */
  readonly restrictions: readonly Restriction[];
  private readonly fuseNative: FuseNativeClass;
  readonly overlay: Overlay;
  private readonly driver: DriverOptions;
  private readonly log: (line: string) => void;
  private end: (end: Promise<End>) => void = () => {};

  /**
   * Opens the layers.
   * @param log gets a line for each operation that failed unexpectedly
   * Throws ErrnoError: EINVAL for options that this transport cannot provide, ENOSYS if fuse-native does not load, and as
   * openOverlay does.
   */
  constructor(stack: StackOptions, driver: DriverOptions, log: (line: string) => void) {
    if (driver.latency === 'low') throw new ErrnoError(EINVAL, 'latency=low: not supported with transport=fuse-native');
    if (driver.passthrough === 'on')
      throw new ErrnoError(EINVAL, 'passthrough=on: not supported with transport=fuse-native');
    if (driver.statfs === 'data') throw new ErrnoError(EINVAL, 'statfs=data: not supported with transport=fuse-native');
    this.fuseNative = load();
    this.overlay = openOverlay(stack, step, memoryFor(driver));
    this.restrictions = restrictionsOf(stack, driver, this.overlay.layers);
    this.driver = driver;
    this.log = log;
    this.ended = new Promise(resolve => {
      this.end = resolve;
    });
  }

  /**
   * Mounts on a directory by its path, and serves. No blocking call of this thread may touch the mount. It is unmounted like any
   * other.
   * Throws ErrnoError: EINVAL for a path that cannot be passed to fuse-native, else EIO, with libfuse's reason on stderr.
   */
  async mount({ shown: mountpoint }: MountPoint, options: FuseMountOptions): Promise<Mounter> {
    const target = exactText(mountpoint);
    if (target === undefined || mountpoint.length > TEXT_BYTES_MAX) {
      throw new ErrnoError(EINVAL, `${printable(mountpoint)}: not UTF-8, or too long for transport=fuse-native`);
    }
    const files = new Files(this.overlay, new Backing(-1, false, this.log), {
      idleMax: IDLE_FILES_MAX,
      verify: this.driver.verify,
    });
    const before = devices();
    await this.connect(target, files, options);
    const descriptor = devices().find(device => !before.includes(device));
    const device = mountAt(readMounts(), mountpoint)?.device;
    const end = disconnected(descriptor).then((): End => {
      files.close();
      this.overlay.close();
      return readMounts().some(mount => mount.device === device) ? 'aborted' : 'unmounted';
    });
    this.end(end);
    return mounter();
  }

  /** Resolves when libfuse has received the kernel's first request. */
  private async connect(mountpoint: string, files: Files, options: FuseMountOptions): Promise<void> {
    const listsTrusted = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
    const owners = this.driver.owners && new Owners(this.driver.owners, overflowIds());
    const operations = new PathOperations(this.overlay, files, listsTrusted, owners, this.log);
    const fuse = new this.fuseNative(mountpoint, operations, { timeout: false });
    const argument = libfuseOptions(options, this.driver, cachePolicy(this.overlay, this.driver));
    fuse._fuseOptions = () => argument;
    fuse._op_getxattr = (signal, path, name, out) => signal(operations.getxattr(path, name, out), out.buffer);
    fuse._op_listxattr = (signal, path, out) => signal(operations.listxattr(path, out), out.buffer);
    const error = await new Promise<Error | null>(done => {
      fuse.mount(done);
      setTimeout(done, GREETING_MS, new Error('unmounted before the first request of the kernel')).unref();
    });
    if (error) throw new ErrnoError(EIO, `fuse-native: mount ${mountpoint}: ${error.message}`);
  }
}

/** Loads fuse-native on demand: it is an optional dependency, and its shared library may be missing, too. */
function load(): FuseNativeClass {
  try {
    return createRequire(import.meta.url)('fuse-native');
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new ErrnoError(ENOSYS, `transport=fuse-native needs the npm package fuse-native and libfuse 2: ${reason}`);
  }
}

/** The single argument for libfuse. The source of the mount comes last and is truncated if it is too long. */
function libfuseOptions(fuse: FuseMountOptions, driver: DriverOptions, cache: CachePolicy): string {
  const options = [
    'ro',
    'use_ino',
    'default_permissions',
    ...(fuse.allowOther ? ['allow_other'] : []),
    ...(fuse.maxReadBytes === undefined ? [] : [`max_read=${fuse.maxReadBytes}`]),
    ...(driver.debug ? ['debug'] : []),
    ...mountFlagNames(fuse.flags),
    `entry_timeout=${seconds(cache.entrySeconds)}`,
    `attr_timeout=${seconds(cache.attrSeconds)}`,
    `negative_timeout=${seconds(cache.negativeSeconds)}`,
    `subtype=${escaped(fuse.subtype)}`,
  ];
  return shortened(`-o${options.join(',')},fsname=${escaped(fuse.fsname)}`);
}

/** libfuse 2 forces nosuid and nodev unless told otherwise, and has no finer flags for access times. */
function mountFlagNames(flags: readonly MountFlag[]): string[] {
  const known = flags.filter(flag => flag === 'noexec' || flag === 'noatime' || flag === 'sync' || flag === 'dirsync');
  return [...known, flags.includes('nosuid') ? 'nosuid' : 'suid', flags.includes('nodev') ? 'nodev' : 'dev'];
}

/** The kernel counts in jiffies and libfuse in doubles; 136 years are long enough. */
const seconds = (wanted: number): number => Math.min(wanted, 2 ** 32 - 1);
const escaped = (name: ByteString): string => Buffer.from(name, 'latin1').toString('utf8').replace(/[\\,]/g, '\\$&');

function shortened(text: string): string {
  const bytes = Buffer.from(text, 'utf8').subarray(0, TEXT_BYTES_MAX);
  return bytes.toString('utf8').replace(/\ufffd$/, '');
}

/** This process's descriptors of /dev/fuse. */
function devices(): string[] {
  return readdirSync('/proc/self/fd').filter(isDevice);
}

function isDevice(descriptor: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`) === '/dev/fuse';
  } catch {
    return false; // the descriptor that readdir itself used
  }
}

/** Resolves when libfuse has closed its descriptor: then every request has been answered, and no more will come. */
function disconnected(descriptor: string | undefined): Promise<void> {
  return new Promise(resolve => {
    const timer = setInterval(() => {
      if (descriptor !== undefined && isDevice(descriptor)) return;
      clearInterval(timer);
      resolve();
    }, LOOK_MS);
  });
}
