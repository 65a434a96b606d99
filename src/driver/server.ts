/** Opens the layers of a mount, and answers the kernel's requests. */

import { attributesChanged, type End } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import type { Nodeid } from '../fuse/filesystem.ts';
import { type InitResult, type Wanted, WRITE_BYTES_MAX } from '../fuse/init.ts';
import { Session } from '../fuse/session.ts';
import { traceTo } from '../fuse/trace.ts';
import { type FuseRing, openRing } from '../fuse/uring.ts';
import { MIN_READ_BUFFER } from '../fuse/wire/abi.ts';
import type { LayerContext } from '../layers/context.ts';
import type { Layer } from '../layers/layer.ts';
import type { StatSource } from '../layers/stored-stat.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions, UpperOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { step } from '../overlay/step.ts';
import type { ByteString } from '../sys/bytes.ts';
import { CpuLatency } from '../sys/cpu-latency.ts';
import { reserveDescriptors } from '../sys/descriptors.ts';
import { EINVAL, EPERM, ErrnoError } from '../sys/errno.ts';
import { runDeferred } from '../sys/event-loop.ts';
import { optimizeNow } from '../sys/memory.ts';
import {
  CAP_SYS_ADMIN,
  hasCapability,
  inInitialUserNamespace,
  openFilesMax,
  overflowIds,
} from '../sys/security/privileges.ts';
import { UpperRoots } from '../upper/roots.ts';
import { MeasurePool } from '../verity/measure-pool.ts';
import type { ActivityCounters } from './activity.ts';
import { Backing } from './backing.ts';
import { type CachePolicy, cachePolicy, memoryFor } from './cache.ts';
import { wantsPassthrough } from './confinement.ts';
import { Files, type OpenReply } from './files.ts';
import { OverlayFilesystem } from './filesystem.ts';
import type { Earlier, Lasting } from './lasting/earlier.ts';
import { Measurer } from './measurer.ts';
import { MERGED_NAME } from './nodes.ts';
import type { DriverOptions } from './options.ts';
import { Owners } from './owners.ts';
import { type Restriction, restrictionsOf } from './restrictions.ts';
import { openWritable, type Writable } from './writable/open.ts';

/** A connection after INIT: its features and its counters. */
export interface Connected {
  /** true if the kernel reads data itself; otherwise the reason why it does not. */
  readonly passthrough: true | string;
  readonly counters: ActivityCounters;
  /**
   * With true, makes the kernel's root hold only one directory, which is the root of the tree. With false, the kernel's root is
   * the tree itself again, as at first.
   * @returns the name of that directory
   */
  readonly holdMerged: (isHeld: boolean) => ByteString;
  /** What another process needs to go on with the connection. */
  readonly left: () => Earlier;
  /** Starts to serve. Settles with how the connection ended; rejects with ErrnoError if it cannot be served. */
  readonly serve: () => Promise<End>;
}

/** A filesystem with its parts. */
interface Served {
  readonly filesystem: OverlayFilesystem;
  readonly files: Files;
  readonly writable: Writable | undefined;
}

export class OverlayServer {
  /** Mount flags that the mount must be made with, in addition to those of its options. */
  readonly restrictions: readonly Restriction[];
  private readonly driver: DriverOptions;
  private readonly stack: StackOptions;
  readonly overlay: Overlay;
  /** The directories that are written to. */
  private roots: UpperRoots | undefined;
  private readonly isPrivileged = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
  private readonly openFilesMax = openFilesMax();
  private readonly idleFilesMax = idleFilesMax(this.openFilesMax);
  /** The number of descriptors that this process may come to have open. */
  private readonly descriptors = Math.min(this.idleFilesMax + OTHER_DESCRIPTORS, this.openFilesMax);
  private readonly latency: CpuLatency | undefined;
  private readonly ring: FuseRing | undefined;
  private readonly owners: Owners | undefined;

  /** Opens everything that serving needs. Throws ErrnoError if that fails, and as openOverlay does. */
  constructor(stack: StackOptions, driver: DriverOptions) {
    this.driver = driver;
    this.stack = stack;
    const { upper } = stack;
    this.overlay = openOverlay(
      stack,
      step,
      memoryFor(driver, stack),
      upper && ((...given) => this.openUpper(upper, ...given)),
    );
    if (upper?.index) this.roots?.useIndex(this.overlay);
    this.overlay.attr(this.overlay.root); // fails now instead of at the kernel's first request
    this.overlay.statfs(driver.statfs);
    this.restrictions = restrictionsOf(stack, driver, this.overlay.layers);
    if (stack.upper && driver.transport !== 'dev')
      throw new ErrnoError(EINVAL, `transport=${driver.transport}: not for a mount with upperdir`);
    if (stack.upper && driver.idmap !== undefined)
      throw new ErrnoError(EINVAL, 'option idmap: not for a mount with upperdir');
    if (driver.passthrough === 'on' && !this.isPrivileged) {
      throw new ErrnoError(EPERM, 'passthrough=on needs CAP_SYS_ADMIN');
    }
    this.latency = driver.latency === 'low' ? new CpuLatency() : undefined;
    this.ring = driver.transport === 'uring' ? openRing() : undefined;
    this.owners = driver.owners && new Owners(driver.owners, overflowIds());
  }

  private openUpper(
    upper: UpperOptions,
    context: LayerContext,
    opaque: readonly ByteString[],
    source: StatSource | undefined,
  ): Layer {
    this.roots = new UpperRoots(upper, context, { opaque, source, noatime: this.driver.noatime === true });
    process.umask(0); // the kernel sends each caller's
    return this.roots.layer;
  }

  /**
   * Whether to mount a directory of the kernel's root instead of that root. The kernel creates its root before INIT enables ACLs.
   * It then asks for the ACL of the root inode again on each path walk, but caches that of all other inodes. File handles need
   * the kernel's root.
   */
  get mountsMerged(): boolean {
    return this.asksForAcls && !this.hasHandles;
  }

  private get asksForAcls(): boolean {
    return this.driver.acl && this.overlay.hasAcl;
  }

  private get hasHandles(): boolean {
    return this.driver.nfsExport === 'on' && this.overlay.recalls;
  }

  /** Permission bits of the root directory. */
  get rootPermissions(): number {
    return this.overlay.attr(this.overlay.root).mode & 0o7777;
  }

  /**
   * Answers INIT, the first request of a mount, unless an earlier server has.
   * @param fd its /dev/fuse
   * @param log gets a line for each event that users should know
   * @param trace gets a line for each message, with `debug`
   * @param lasting if the connection is to outlive this process
   * @returns the connection, or how it ended if it ended before INIT
   */
  connect(fd: number, log: (line: string) => void, trace: (line: string) => void, lasting?: Lasting): Connected | End {
    const { latency, ring } = this;
    const { filesystem, files, writable } = this.filesystem(fd, log, lasting);
    const dispatcher = new Dispatcher(filesystem, {
      wanted: this.wanted(writable !== undefined),
      log,
      tracer: this.driver.debug ? traceTo(trace) : undefined,
      onBusy: optimizeNow,
    });
    const requestBytes = writable && WRITE_BYTES_MAX + MIN_READ_BUFFER;
    const session = new Session(fd, dispatcher, { log, latency, requestBytes }, ring);
    const connection = lasting?.earlier ? resumed(session, filesystem, lasting.earlier) : session.begin();
    if (typeof connection === 'string') return connection;
    return {
      passthrough: writable ? LOWER_BY_PROCESS : connection.flags.has('PASSTHROUGH') || this.whyNoPassthrough(),
      counters: {
        requests: dispatcher.counts.counters,
        files: files.counters,
        names: filesystem.counters,
        caches: filesystem.caches,
      },
      holdMerged: isHeld => {
        filesystem.holdMerged(isHeld);
        return MERGED_NAME;
      },
      left: () => ({ connection, holdsMerged: filesystem.holdsMerged }),
      serve: () => {
        // not earlier: a thread that waits for the kernel would delay the confinement of all threads
        runDeferred(() => reserveDescriptors(fd, this.descriptors));
        return session.run().finally(() => latency?.close());
      },
    };
  }

  /** What is asked of the kernel in INIT. */
  private wanted(writes: boolean): Wanted {
    return {
      passthroughDepth: this.passesThrough ? 1 : 0,
      posixAcl: this.asksForAcls,
      changes: !this.overlay.immutable && !writes,
      writes,
      handles: this.hasHandles,
      ioUring: this.ring !== undefined,
      outlives: this.driver.restart === 'on',
      mapsIds: this.driver.idmap !== undefined,
    };
  }

  private get passesThrough(): boolean {
    return this.isPrivileged && wantsPassthrough(this.driver);
  }

  private filesystem(fd: number, log: (line: string) => void, lasting: Lasting | undefined): Served {
    const { driver, overlay, isPrivileged } = this;
    const backing = new Backing(fd, this.passesThrough, log, lasting?.ledger);
    // lower files of a writable tree are read through the kernel's cache of pages, which stays right when they are copied up
    const files = new Files(overlay, this.roots ? new Backing(fd, false, log) : backing, {
      idleMax: this.idleFilesMax,
      verify: driver.verify,
      firstHandle: lasting?.ledger.firstHandle,
      measurer: new Measurer<OpenReply | number>(new MeasurePool()),
    });
    const cache = cachePolicy(overlay, driver);
    const visible = { acl: driver.acl, trusted: isPrivileged, statfs: driver.statfs, owners: this.owners };
    const writable = this.writable(fd, backing, files, cache);
    return { filesystem: new OverlayFilesystem(overlay, files, cache, visible, writable), files, writable };
  }

  private writable(fd: number, backing: Backing, files: Files, cache: CachePolicy): Writable | undefined {
    const { roots, overlay, stack, owners } = this;
    if (roots === undefined || stack.upper === undefined) return undefined;
    const { redirects, volatile } = stack.upper;
    const ownersMayDiffer = owners?.areSquashed === true;
    const rules = { metacopy: stack.metacopy, redirects, volatile: volatile !== false, ownersMayDiffer };
    const inform = (nodeid: Nodeid): number => attributesChanged(fd, nodeid);
    return openWritable(overlay, roots, rules, backing, files, cache, owners, inform);
  }

  private whyNoPassthrough(): string {
    const { driver, isPrivileged } = this;
    if (driver.passthrough === 'off') return 'passthrough=off';
    if (driver.opens === 'none') return 'opens=none';
    return isPrivileged ? 'this kernel has no passthrough' : 'no passthrough without CAP_SYS_ADMIN';
  }
}

/** Goes on with a connection that an earlier server has left. */
function resumed(session: Session, filesystem: OverlayFilesystem, { connection, holdsMerged }: Earlier): InitResult {
  filesystem.holdMerged(holdsMerged);
  session.resume(connection);
  return connection;
}

/** Why layers below an upper one are not read by the kernel itself. */
const LOWER_BY_PROCESS = 'files of lower layers are read through this process, because they may be copied up';

/** More than the descriptors of directories, sockets and Node.js together. */
const OTHER_DESCRIPTORS = 2048;

/** A quarter of the descriptors that the process may have, but between 16 and 16,384. */
function idleFilesMax(openFilesMax: number): number {
  return Math.max(16, Math.min(16_384, Math.floor(openFilesMax / 4)));
}
