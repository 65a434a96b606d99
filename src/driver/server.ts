/** Opens the layers of a mount, and answers the kernel. */
import type { End } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import { Session } from '../fuse/session.ts';
import { traceTo } from '../fuse/trace.ts';
import { type FuseRing, openRing } from '../fuse/uring.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { step } from '../overlay/step.ts';
import type { ByteString } from '../sys/bytes.ts';
import { CpuLatency } from '../sys/cpu-latency.ts';
import { EPERM, ErrnoError } from '../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace, openFilesMax } from '../sys/security/privileges.ts';
import { MeasurePool } from '../verity/measure-pool.ts';
import type { ActivityCounters } from './activity.ts';
import { Backing } from './backing.ts';
import { cachePolicy, memoryFor } from './cache.ts';
import { wantsPassthrough } from './confinement.ts';
import { Files, type Opened } from './files.ts';
import { MERGED_NAME, OverlayFilesystem } from './filesystem.ts';
import { Measurer } from './measurer.ts';
import type { DriverOptions } from './options.ts';
import { type Restriction, restrictionsOf } from './restrictions.ts';

/** What the kernel can do, and what is counted. */
export interface Connected {
  /** true where it reads data itself; else why it does not. */
  readonly passthrough: true | string;
  readonly counters: ActivityCounters;
  /**
   * Has the kernel's root hold one directory alone, which is the root of the tree, or else the tree itself, as at first.
   * @returns the name of that directory
   */
  readonly holdMerged: (isHeld: boolean) => ByteString;
  /** Serves from here on. Settles with how the connection ended; rejects with ErrnoError where it can not be served. */
  readonly serve: () => Promise<End>;
}

export class OverlayServer {
  /** What the mount has to be made with, whatever options say besides. */
  readonly restrictions: readonly Restriction[];
  private readonly driver: DriverOptions;
  private readonly overlay: Overlay;
  private readonly isPrivileged = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
  private readonly idleFilesMax = idleFilesMax();
  private readonly latency: CpuLatency | undefined;
  private readonly ring: FuseRing | undefined;

  /** Opens all that serving needs. Throws ErrnoError where it can not be had, and as openOverlay does. */
  constructor(stack: StackOptions, driver: DriverOptions) {
    this.driver = driver;
    this.overlay = openOverlay(stack, step, memoryFor(driver));
    this.overlay.attr(this.overlay.root); // the mount answers when this can be said
    this.overlay.statfs(driver.statfs);
    this.restrictions = restrictionsOf(stack, driver, this.overlay.layers);
    if (driver.passthrough === 'on' && !this.isPrivileged) {
      throw new ErrnoError(EPERM, 'passthrough=on needs CAP_SYS_ADMIN');
    }
    this.latency = driver.latency === 'low' ? new CpuLatency() : undefined;
    this.ring = driver.transport === 'uring' ? openRing() : undefined;
  }

  /**
   * Whether a directory in the kernel's root is better mounted than that root. The kernel makes its root before it hears of
   * ACLs, and asks for the ACL of that inode anew for each path that a user walks; it keeps those of all others. File handles
   * lead to the kernel's root.
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

  /** Of the root directory. */
  get rootPermissions(): number {
    return this.overlay.attr(this.overlay.root).mode & 0o7777;
  }

  /**
   * Answers the first request of a mount.
   * @param fd its /dev/fuse @param log gets a line for what users should know @param trace each message, with `debug`
   * @returns how the connection ended, where it did before
   */
  connect(fd: number, log: (line: string) => void, trace: (line: string) => void): Connected | End {
    const { driver, overlay, isPrivileged, latency, ring } = this;
    const wanted = isPrivileged && wantsPassthrough(driver);
    const files = new Files(overlay, new Backing(fd, wanted, log), {
      idleMax: this.idleFilesMax,
      verify: driver.verify,
      measurer: new Measurer<Opened | number>(new MeasurePool()),
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
        filesystem.holdsMerged = isHeld;
        return MERGED_NAME;
      },
      serve: () => session.run().finally(() => latency?.close()),
    };
  }

  private whyNoPassthrough(): string {
    const { driver, isPrivileged } = this;
    if (driver.passthrough === 'off') return 'passthrough=off';
    if (driver.opens === 'none') return 'opens=none';
    return isPrivileged ? 'this kernel has no passthrough' : 'no passthrough without CAP_SYS_ADMIN';
  }
}

/** A quarter of the descriptors that the process may have, and no more than 16,384. */
function idleFilesMax(): number {
  return Math.max(16, Math.min(16_384, Math.floor(openFilesMax() / 4)));
}
