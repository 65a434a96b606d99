/** The life of a mount: opens the layers, mounts, serves, and unmounts. */
import { writeSync } from 'node:fs';
import type { ActivityCounters } from '../driver/activity.ts';
import {
  boundPrograms,
  type Confinement,
  confinementObstacle,
  confinementText,
  Limits,
} from '../driver/confinement.ts';
import { type Protection, protectionOf, protectionText } from '../driver/protection.ts';
import type { Restriction } from '../driver/restrictions.ts';
import { type Connected, OverlayServer } from '../driver/server.ts';
import { DetachedMount } from '../fuse/detached-mount.ts';
import { type FuseMountOptions, type Mounter, mounter, mountFuse, unmountFuse } from '../fuse/mount.ts';
import type { MountPoint } from '../fuse/mount-point.ts';
import { isOnTop, isSame, type Mount, MountTable } from '../fuse/mountinfo.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { asOneLine, printable } from '../sys/bytes.ts';
import { EIO, ErrnoError } from '../sys/errno.ts';
import { collectWithoutHelp } from '../sys/memory.ts';
import { native } from '../sys/native.ts';
import { liveText } from './activity-text.ts';
import { liveNumbers, serveLive } from './control-socket.ts';
import type { Finding } from './finding.ts';
import { LimitedLog } from './log-limit.ts';
import type { MountPlan } from './plan.ts';
import { stackFinding } from './stack-finding.ts';
import { recordedLayers, StateFile } from './state.ts';
import { connectSupervisor, notifySupervisor } from './supervisor.ts';
import { Watcher } from './watcher.ts';

/** A mount for one daemon to make. */
export interface MountOrder {
  readonly plan: MountPlan;
  readonly mountpoint: MountPoint;
  /** The caller's descriptors. Paths of layers may refer to them, so they are closed after the layers have been opened. */
  readonly inherited: readonly number[];
  /** Called once the layers are open: from then on, no path is relative to the working directory. */
  readonly leaveDirectory: () => void;
}

/** A mount that answers, as its daemon describes it. */
export interface Readiness {
  /** The mount's protection and the confinement of its daemon, for people. */
  readonly safety: string;
  /** What people should know at once; see `stackFinding`. */
  readonly finding: Finding | undefined;
}

/**
 * Mounts and serves until the mount is gone. If a mount that should end is busy, it stays.
 * @param ready called once the root of the tree can be read
 * @param write gets a line for each event that users should know
 * @returns the exit status: 0 after an unmount, otherwise 1
 * Throws ErrnoError if the mount could not be made; then nothing is left behind.
 */
export async function serveMount(
  order: MountOrder,
  ready: (readiness: Readiness) => void,
  write: (line: string) => void,
): Promise<number> {
  const log = (line: string): void => write(asOneLine(line));
  const limited = new LimitedLog(log);
  connectSupervisor();
  if (whyUnconfined(order.plan) === undefined) boundPrograms();
  const watcher = new Watcher(mounter(), order.mountpoint.directory); // without a mount it ends with this process
  const server = await open(order.plan, limited.say);
  const layers = recordedLayers(order.plan.stack);
  const finding = stackFinding(server.overlay);
  for (const fd of order.inherited) native.close(fd);
  order.leaveDirectory();
  collectWithoutHelp();
  native.prepareStreams(); // /dev may be covered by the mount
  const requests = new StopRequests(log);
  const state = new StateFile();
  serveLive(state.socket, () => mount.safety.counters);
  const mount = await LiveMount.make(order, server, watcher, state);
  const { plan } = order;
  const { protection, confinement } = mount.safety;
  const { device, path: mountpoint, source } = mount.seen;
  state.write({
    ...{ device, mountpoint, source },
    startedAt: Date.now(),
    transport: plan.driver.transport,
    ...layers,
    protection,
    confinement,
    finding: finding ?? null,
  });
  process.on('SIGUSR1', () => logNumbers(mount, log));
  await watcher.look();
  requests.attend(mount);
  ready({ safety: `${protectionText(protection)}; ${confinementText(confinement)}`, finding });
  notifySupervisor('READY=1', `MAINPID=${process.pid}`, `STATUS=${printable(mountpoint)} is mounted`);
  const end = await Promise.race([server.ended, requests.abandoned]);
  const isForced = end === 'unmounted' && (await mount.takeAwayIfDead());
  if (end === 'unmounted') await watcher.gone(); // otherwise it removes the rest when this process ends
  state.remove();
  limited.summarize();
  if (end === 'unmounted' && !isForced) return 0;
  log(`${printable(mountpoint)}: ${isForced ? 'unmounted by force while in use' : end}`);
  return 1;
}

function logNumbers({ safety }: LiveMount, log: (line: string) => void): void {
  try {
    for (const line of liveText(liveNumbers(safety.counters))) log(line);
  } catch (error) {
    log((error as Error).message); // for example, no descriptor is left: the mount continues
  }
}

/** The protection of data against changed objects, the confinement of this process, and the mount's counters. */
interface Safety {
  readonly protection: Protection;
  readonly confinement: Confinement | string;
  /** undefined if nothing is counted. */
  readonly counters: ActivityCounters | undefined;
}

/** A transport: it has opened the layers and answers the kernel. */
interface Server {
  readonly overlay: Overlay;
  /** Resolves with how the connection ended, or with the error that ended the server. */
  readonly ended: Promise<string>;
  /**
   * Mounts, and serves from then on. Throws ErrnoError and then leaves nothing behind.
   * @param watched whether the watcher can unmount, so that this process may give up the right to
   */
  mount(mountpoint: MountPoint, options: FuseMountOptions, watched: boolean): Promise<Mounted>;
}

interface Mounted {
  readonly by: Mounter;
  /** undefined if the connection ended before INIT. */
  readonly safety: Safety | undefined;
}

/** The reason why the daemon is not confined, regardless of the kernel; undefined if it may be. */
function whyUnconfined({ driver }: MountPlan): string | undefined {
  if (driver.confine === 'off') return 'confine=off';
  return driver.transport === 'fuse-native' ? 'transport=fuse-native' : confinementObstacle();
}

async function open(plan: MountPlan, log: (line: string) => void): Promise<Server> {
  if (plan.driver.transport !== 'fuse-native') return new OwnServer(plan, log);
  const { FuseNativeServer } = await import('../driver/fuse-native.ts');
  const server = new FuseNativeServer(plan.stack, plan.driver, log);
  const restrictions = addedTo(plan, server.restrictions);
  const protection = protectionOf(plan.stack, plan.driver, 'no passthrough with transport=fuse-native', restrictions);
  const safety: Safety = { protection, confinement: whyUnconfined(plan) as string, counters: undefined };
  return {
    overlay: server.overlay,
    ended: server.ended,
    mount: async (mountpoint, options) => ({
      by: await server.mount(mountpoint, restricted(options, restrictions)),
      safety,
    }),
  };
}

/** The layers' restrictions that options have not imposed already. */
const addedTo = ({ fuse }: MountPlan, restrictions: readonly Restriction[]): Restriction[] =>
  restrictions.filter(({ flag }) => !fuse.flags.includes(flag));

function restricted(options: FuseMountOptions, restrictions: readonly Restriction[]): FuseMountOptions {
  return { ...options, flags: [...options.flags, ...restrictions.map(({ flag }) => flag)] };
}

/** The built-in transport: serves on this thread, between the events of its loop. */
class OwnServer implements Server {
  readonly ended: Promise<string>;
  private readonly plan: MountPlan;
  private readonly log: (line: string) => void;
  private readonly server: OverlayServer;
  /** The limits of this process, or the reason why there are none. */
  private readonly limits: Limits | string;
  private readonly end: (how: string) => void;

  constructor(plan: MountPlan, log: (line: string) => void) {
    this.plan = plan;
    this.log = log;
    this.server = new OverlayServer(plan.stack, plan.driver);
    this.limits = whyUnconfined(plan) ?? new Limits(plan.stack);
    const { promise, resolve } = withResolvers<string>();
    this.ended = promise;
    this.end = resolve;
  }

  get overlay(): Overlay {
    return this.server.overlay;
  }

  /** From here on, this thread must not use a path into the mount: it would wait for itself. */
  async mount(mountpoint: MountPoint, options: FuseMountOptions, watched: boolean): Promise<Mounted> {
    const { plan, server } = this;
    const restrictions = addedTo(plan, server.restrictions);
    const made = { ...restricted(options, restrictions), rootPermissions: server.rootPermissions };
    const detached = server.mountsMerged ? DetachedMount.make(made) : undefined;
    const { fd, by } = detached ?? (await mountFuse(mountpoint, made));
    const connected = server.connect(fd, this.log, trace);
    if (typeof connected === 'string') {
      this.end(connected);
      detached?.close();
      return { by, safety: undefined };
    }
    const { passthrough, counters } = connected;
    if (detached) await this.place(detached, mountpoint, connected);
    const limits = watched ? this.limits : 'there is no shell that would unmount';
    const confinement = typeof limits === 'string' ? limits : limits.enter(passthrough === true);
    if (!detached) this.serve(connected);
    return {
      by,
      safety: {
        protection: protectionOf(plan.stack, plan.driver, passthrough, restrictions),
        confinement,
        counters,
      },
    };
  }

  /** Serves before the mount is in its place. Until then only a shell of this process can send requests. */
  private async place(detached: DetachedMount, mountpoint: MountPoint, connected: Connected): Promise<void> {
    this.serve(connected);
    try {
      const name = connected.holdMerged(true);
      const taken = await Promise.race([detached.take(name), this.ended]);
      if (typeof taken === 'string') throw new ErrnoError(EIO, `${printable(mountpoint.shown)}: ${taken} too early`);
      if (!taken) connected.holdMerged(false);
      await detached.place(mountpoint);
    } finally {
      detached.close();
    }
  }

  private serve({ serve }: Connected): void {
    serve().then(this.end, (error: Error) => this.end(`serving failed: ${error.message}`));
  }
}

/** Writes a line to stderr. A failure to write it must not end the mount. */
function trace(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {}
}

/** A mount that this process serves. */
class LiveMount {
  /** The mount as it first appeared in mountinfo. */
  readonly seen: Mount;
  readonly safety: Safety;
  private readonly watcher: Watcher;
  private readonly by: Mounter;
  private readonly table: MountTable;

  private constructor(seen: Mount, table: MountTable, watcher: Watcher, by: Mounter, safety: Safety) {
    this.seen = seen;
    this.table = table;
    this.safety = safety;
    this.watcher = watcher;
    this.by = by;
  }

  static async make(order: MountOrder, server: Server, watcher: Watcher, state: StateFile): Promise<LiveMount> {
    const { plan, mountpoint } = order;
    const covered = mountpoint.mountId;
    watcher.mounting(mountpoint);
    const table = new MountTable();
    let mounted: Mounted;
    try {
      mounted = await server.mount(mountpoint, plan.fuse, watcher.isThere);
    } catch (error) {
      await watcher.gone();
      state.remove();
      throw error;
    }
    const { by, safety } = mounted;
    const id = mountpoint.mountId;
    const seen = id === covered ? undefined : table.read().find(mount => mount.id === id);
    for (const descriptors of [mountpoint.release, mountpoint.close]) descriptors.call(mountpoint);
    try {
      const shown = printable(mountpoint.shown);
      if (seen === undefined) throw new ErrnoError(EIO, `${shown}: mounted, but not in mountinfo`);
      watcher.mounted(seen, by, state.path);
      if (safety) return new LiveMount(seen, table, watcher, by, safety);
      throw new ErrnoError(EIO, `${shown}: ${await server.ended} before it answered`);
    } catch (error) {
      if (await takeAway(watcher, seen, by, true).catch(() => false)) await watcher.gone();
      state.remove();
      throw error;
    }
  }

  /**
   * Where the mount can be unmounted: at its first place, or at another if it was moved or bind-mounted. undefined if it is
   * nowhere in this namespace.
   */
  get place(): Mount | undefined {
    const mounts = this.table.read();
    const places = mounts.filter(mount => isSame(mount, this.seen) && isOnTop(mounts, mount));
    return places.find(({ path }) => path === this.seen.path) ?? places.at(-1);
  }

  /**
   * Detaches the mount if it is dead. To the server, umount -f looks like an unmount, but a mount in use stays and answers
   * ENOTCONN forever. Only that answer distinguishes it from another mount, which may have its device number and its place by
   * now.
   */
  async takeAwayIfDead(): Promise<boolean> {
    return this.place !== undefined && this.watcher.isThere && this.watcher.unmountIfDead();
  }

  /** Unmounts. @returns true if it is unmounted, false if it is in use */
  unmount(place: Mount, lazy: boolean): Promise<boolean> {
    return takeAway(this.watcher, place, this.by, lazy);
  }
}

/** Unmounts by the watcher, or without one by this process. @returns true if it is unmounted, false if it is in use */
async function takeAway(watcher: Watcher, place: Mount | undefined, by: Mounter, lazy: boolean): Promise<boolean> {
  if (watcher.isThere) return watcher.unmount(lazy);
  return place === undefined || unmountFuse(place, by, { lazy });
}

/** SIGTERM, SIGINT and SIGHUP: the first unmounts, the second detaches a busy mount, the third gives up on its users. */
class StopRequests {
  /** Resolves when there is nothing more to wait for. */
  readonly abandoned: Promise<string>;
  private mount: LiveMount | undefined;
  private readonly log: (line: string) => void;
  private readonly abandon: (why: string) => void;
  private count = 0;

  /** Installs the handlers. From here on, the first signal does not end the process. */
  constructor(log: (line: string) => void) {
    this.log = log;
    const { promise, resolve } = withResolvers<string>();
    this.abandoned = promise;
    this.abandon = resolve;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        this.count++;
        if (this.mount) void this.stop(this.mount);
        else if (this.count > 1) leave(1); // the mount will not be finished; the watcher removes what was made
      });
    }
  }

  /** Must be called when the mount is made. Handles the signals that came before. */
  attend(mount: LiveMount): void {
    this.mount = mount;
    if (this.count > 0) void this.stop(mount);
  }

  private async stop(mount: LiveMount): Promise<void> {
    try {
      const { place } = mount;
      if (this.count > 2) this.abandon('given up while in use');
      else if (place === undefined && this.count === 1) this.abandon('unmounted');
      if (place === undefined || this.count > 2) return;
      const shown = printable(place.path);
      notifySupervisor('STOPPING=1', `STATUS=unmounting ${shown}`);
      if (await mount.unmount(place, this.count > 1)) {
        if (mount.place) this.log(`unmounted; ${printable(mount.place.path)} is the same mount, and stays`);
        return; // otherwise serving ends now, or with the mount's last user
      }
      const busy = `${shown} is busy and stays mounted; a second signal detaches it`;
      notifySupervisor(`STATUS=${busy}`);
      this.log(busy);
    } catch (error) {
      this.log((error as Error).message);
    }
  }
}

interface Resolvers<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

function withResolvers<T>(): Resolvers<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  promise.catch(() => {}); // the waiting code gets the error
  return { promise, resolve, reject };
}

/** Ends the process at once, even if one of its threads is blocked. */
export function leave(status: number): never {
  return native.exit(status);
}
