/** Opens the layers of a mount, and answers the kernel's requests. */
import type { End } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import { Session } from '../fuse/session.ts';
import { traceTo } from '../fuse/trace.ts';
import { type FuseRing, openRing } from '../fuse/uring.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { step } from '../overlay/step.ts';
import type { ByteString } from '../sys/bytes.ts';
import { CpuLatency } from '../sys/cpu-latency.ts';
import { reserveDescriptors } from '../sys/descriptors.ts';
import { EPERM, ErrnoError } from '../sys/errno.ts';
import { runDeferred } from '../sys/event-loop.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace, openFilesMax } from '../sys/security/privileges.ts';
import { MeasurePool } from '../verity/measure-pool.ts';
import type { ActivityCounters } from './activity.ts';
import { Backing } from './backing.ts';
import { cachePolicy, memoryFor } from './cache.ts';
import { wantsPassthrough } from './confinement.ts';
import { Files, type OpenReply } from './files.ts';
import { OverlayFilesystem } from './filesystem.ts';
import { Measurer } from './measurer.ts';
import { MERGED_NAME } from './nodes.ts';
import type { DriverOptions } from './options.ts';
import { type Restriction, restrictionsOf } from './restrictions.ts';

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
  /** Starts to serve. Settles with how the connection ended; rejects with ErrnoError if it cannot be served. */
  readonly serve: () => Promise<End>;
}

export class OverlayServer {
  /** Mount flags that the mount must be made with, in addition to those of its options. */
  readonly restrictions: readonly Restriction[];
  private readonly driver: DriverOptions;
  readonly overlay: Overlay;
  private readonly isPrivileged = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
  private readonly openFilesMax = openFilesMax();
  private readonly idleFilesMax = idleFilesMax(this.openFilesMax);
  /** The number of descriptors that this process may come to have open. */
  private readonly descriptors = Math.min(this.idleFilesMax + OTHER_DESCRIPTORS, this.openFilesMax);
  private readonly latency: CpuLatency | undefined;
  private readonly ring: FuseRing | undefined;

  /** Opens everything that serving needs. Throws ErrnoError if that fails, and as openOverlay does. */
  constructor(stack: StackOptions, driver: DriverOptions) {
    this.driver = driver;
    this.overlay = openOverlay(stack, step, memoryFor(driver));
    this.overlay.attr(this.overlay.root); // fails now instead of at the kernel's first request
    this.overlay.statfs(driver.statfs);
    this.restrictions = restrictionsOf(stack, driver, this.overlay.layers);
    if (driver.passthrough === 'on' && !this.isPrivileged) {
      throw new ErrnoError(EPERM, 'passthrough=on needs CAP_SYS_ADMIN');
    }
    this.latency = driver.latency === 'low' ? new CpuLatency() : undefined;
    this.ring = driver.transport === 'uring' ? openRing() : undefined;
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
   * Answers INIT, the first request of a mount.
   * @param fd its /dev/fuse
   * @param log gets a line for each event that users should know
   * @param trace gets a line for each message, with `debug`
   * @returns the connection, or how it ended if it ended before INIT
   */
  connect(fd: number, log: (line: string) => void, trace: (line: string) => void): Connected | End {
    const { driver, overlay, isPrivileged, latency, ring } = this;
    const wanted = isPrivileged && wantsPassthrough(driver);
    const files = new Files(overlay, new Backing(fd, wanted, log), {
      idleMax: this.idleFilesMax,
      verify: driver.verify,
      measurer: new Measurer<OpenReply | number>(new MeasurePool()),
    });
    const filesystem = new OverlayFilesystem(overlay, files, cachePolicy(overlay, driver), {
      acl: driver.acl,
      trusted: isPrivileged,
      statfs: driver.statfs,
    });
    const dispatcher = new Dispatcher(filesystem, {
      wanted: {
        passthroughDepth: wanted ? 1 : 0,
        posixAcl: this.asksForAcls,
        changes: !overlay.immutable,
        handles: this.hasHandles,
        ioUring: ring !== undefined,
      },
      log,
      tracer: driver.debug ? traceTo(trace) : undefined,
    });
    const session = new Session(fd, dispatcher, { log, latency }, ring);
    const connection = session.begin();
    if (typeof connection === 'string') return connection;
    return {
      passthrough: connection.flags.has('PASSTHROUGH') || this.whyNoPassthrough(),
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
      serve: () => {
        // not earlier: a thread that waits for the kernel would delay the confinement of all threads
        runDeferred(() => reserveDescriptors(fd, this.descriptors));
        return session.run().finally(() => latency?.close());
      },
    };
  }

  private whyNoPassthrough(): string {
    const { driver, isPrivileged } = this;
    if (driver.passthrough === 'off') return 'passthrough=off';
    if (driver.opens === 'none') return 'opens=none';
    return isPrivileged ? 'this kernel has no passthrough' : 'no passthrough without CAP_SYS_ADMIN';
  }
}

/** More than the descriptors of directories, sockets and Node.js together. */
const OTHER_DESCRIPTORS = 2048;

/** A quarter of the descriptors that the process may have, but between 16 and 16,384. */
function idleFilesMax(openFilesMax: number): number {
  return Math.max(16, Math.min(16_384, Math.floor(openFilesMax / 4)));
}
