/** A mount that is served, and how it is unmounted. */
import type { Earlier } from '../../driver/lasting/earlier.ts';
import { HandedConnection } from '../../fuse/handed-connection.ts';
import { type Mounter, mounter, unmountFuse } from '../../fuse/mount.ts';
import type { MountPoint } from '../../fuse/mount-point.ts';
import { isOnTop, isSame, type Mount, MountTable } from '../../fuse/mountinfo.ts';
import { printable } from '../../sys/bytes.ts';
import { EIO, ErrnoError } from '../../sys/errno.ts';
import type { MountPlan } from '../plan.ts';
import type { Handover } from '../restart/handover.ts';
import type { StateFile } from '../state.ts';
import type { Watcher } from '../watcher.ts';
import type { MountOrder } from './order.ts';
import type { Kept, Mounted, Safety, Server } from './transport.ts';

interface Made {
  readonly safety: Safety;
  readonly left: Earlier | undefined;
}

/** A mount that this process serves. */
export class LiveMount {
  /** The mount as it first appeared in mountinfo; undefined if this process cannot see it. */
  readonly seen: Mount | undefined;
  readonly safety: Safety;
  /** What another process needs to go on with it; undefined if none can. */
  readonly left: Earlier | undefined;
  private readonly watcher: Watcher;
  private readonly by: Mounter;
  private readonly table: MountTable;

  private constructor(seen: Mount | undefined, table: MountTable, watcher: Watcher, by: Mounter, made: Made) {
    this.seen = seen;
    this.table = table;
    this.safety = made.safety;
    this.left = made.left;
    this.watcher = watcher;
    this.by = by;
  }

  /** @param handover for the daemon that goes on with the mount when this one dies; undefined if none will */
  static make(
    { plan, mountpoint, resumed }: MountOrder,
    server: Server,
    watcher: Watcher,
    state: StateFile,
    handover?: Handover,
  ): Promise<LiveMount> {
    const kept: Kept = {
      isWatched: watcher.isThere,
      lasting: handover,
      connected: fd => void (handover && !resumed && watcher.keep(handover.descriptors(fd))),
    };
    if (mountpoint instanceof HandedConnection) return LiveMount.adopt(mountpoint, server, watcher, state, kept);
    return LiveMount.mount(plan, mountpoint, server, watcher, state, kept);
  }

  private static async adopt(
    handed: HandedConnection,
    server: Server,
    watcher: Watcher,
    state: StateFile,
    kept: Kept,
  ): Promise<LiveMount> {
    const { mount: seen, shown } = handed;
    if (seen) {
      watcher.mounting({ shown: seen.path, mountId: undefined });
      watcher.mounted(seen, mounter(), state.path); // if this fails, the watcher removes what is dead then
    } else state.remove(); // nobody could unmount it by its path
    handed.close();
    const isWatched = watcher.isThere || seen === undefined;
    const { by, safety, left } = await server.adopt(handed, { ...kept, isWatched });
    if (safety) return new LiveMount(seen, new MountTable(), watcher, by, { safety, left });
    throw new ErrnoError(EIO, `${printable(shown)}: ${await server.ended} before it answered`);
  }

  private static async mount(
    plan: MountPlan,
    mountpoint: MountPoint,
    server: Server,
    watcher: Watcher,
    state: StateFile,
    kept: Kept,
  ): Promise<LiveMount> {
    const covered = mountpoint.mountId;
    watcher.mounting(mountpoint);
    const table = new MountTable();
    let mounted: Mounted;
    try {
      mounted = await server.mount(mountpoint, plan.fuse, kept);
    } catch (error) {
      await watcher.gone();
      state.remove();
      throw error;
    }
    const { by, safety, left } = mounted;
    const id = mountpoint.mountId;
    const seen = id === covered ? undefined : table.read().find(mount => mount.id === id);
    for (const descriptors of [mountpoint.release, mountpoint.close]) descriptors.call(mountpoint);
    try {
      const shown = printable(mountpoint.shown);
      if (seen === undefined) throw new ErrnoError(EIO, `${shown}: mounted, but not in mountinfo`);
      watcher.mounted(seen, by, state.path);
      if (safety) return new LiveMount(seen, table, watcher, by, { safety, left });
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
    const { seen } = this;
    if (seen === undefined) return undefined;
    const mounts = this.table.read();
    const places = mounts.filter(mount => isSame(mount, seen) && isOnTop(mounts, mount));
    return places.find(({ path }) => path === seen.path) ?? places.at(-1);
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
