/** The transports, which open the layers, mount and answer the kernel. */
import { writeSync } from 'node:fs';
import type { ActivityCounters } from '../../driver/activity.ts';
import { type Confinement, confinementObstacle, Limits } from '../../driver/confinement.ts';
import type { Earlier, Lasting } from '../../driver/lasting/earlier.ts';
import { type Protection, protectionOf } from '../../driver/protection.ts';
import type { Restriction } from '../../driver/restrictions.ts';
import { type Connected, OverlayServer } from '../../driver/server.ts';
import { DetachedMount } from '../../fuse/detached-mount.ts';
import type { HandedConnection } from '../../fuse/handed-connection.ts';
import { type FuseMountOptions, type Mounter, mounter, mountFuse } from '../../fuse/mount.ts';
import type { MountPoint } from '../../fuse/mount-point.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { printable } from '../../sys/bytes.ts';
import { EINVAL, EIO, EPERM, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import type { MountPlan } from '../plan.ts';
import { withResolvers } from './resolvers.ts';

/** The protection of data against changed objects, the confinement of this process, and the mount's counters. */
export interface Safety {
  readonly protection: Protection;
  readonly confinement: Confinement | string;
  /** undefined if nothing is counted. */
  readonly counters: ActivityCounters | undefined;
}

/** A transport: it has opened the layers and answers the kernel. */
export interface Server {
  readonly overlay: Overlay;
  /** Resolves with how the connection ended, or with the error that ended the server. */
  readonly ended: Promise<string>;
  /** Mounts, and serves from then on. Throws ErrnoError and then leaves nothing behind. */
  mount(mountpoint: MountPoint, options: FuseMountOptions, kept: Kept): Promise<Mounted>;
  /** Serves a mount that another program has made. Throws ErrnoError if it cannot be served. */
  adopt(handed: HandedConnection, kept: Kept): Promise<Mounted>;
}

/** What stays when this process gives up its rights, or dies. */
export interface Kept {
  /** Whether the watcher can unmount, so that this process may give up the right to. */
  readonly isWatched: boolean;
  /** With `restart=on`. */
  readonly lasting?: Lasting | undefined;
  /** Called with /dev/fuse of the new connection while this process has all its rights. */
  readonly connected: (fd: number) => void;
}

export interface Mounted {
  readonly by: Mounter;
  /** undefined if the connection ended before INIT. */
  readonly safety: Safety | undefined;
  /** What another process needs to go on with the connection. */
  readonly left?: Earlier;
}

/** The reason why the daemon is not confined, regardless of the kernel; undefined if it may be. */
export function whyUnconfined({ driver }: MountPlan): string | undefined {
  if (driver.confine === 'off') return 'confine=off';
  return driver.transport === 'fuse-native' ? 'transport=fuse-native' : confinementObstacle();
}

export async function openServer(plan: MountPlan, log: (line: string) => void): Promise<Server> {
  if (plan.driver.transport !== 'fuse-native') return new OwnServer(plan, log);
  if (plan.driver.idmap !== undefined) throw new ErrnoError(EINVAL, 'option idmap: not with transport=fuse-native');
  const { FuseNativeServer } = await import('../../driver/fuse-native.ts');
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
    adopt: async ({ shown }) => {
      throw new ErrnoError(
        EINVAL,
        `transport=fuse-native: it cannot serve ${printable(shown)}, it has to mount itself`,
      );
    },
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
  /** The user namespace by which owners are mapped. */
  private readonly namespace: { readonly fd: number; readonly shown: string } | undefined;

  constructor(plan: MountPlan, log: (line: string) => void) {
    this.plan = plan;
    this.log = log;
    this.namespace = openNamespace(plan);
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
  async mount(mountpoint: MountPoint, options: FuseMountOptions, kept: Kept): Promise<Mounted> {
    const { plan, server } = this;
    const restrictions = addedTo(plan, server.restrictions);
    const made = { ...restricted(options, restrictions), rootPermissions: server.rootPermissions };
    const { namespace } = this;
    const detached = server.mountsMerged || namespace ? DetachedMount.make(made) : undefined;
    if (namespace && !detached)
      throw new ErrnoError(
        EPERM,
        `${namespace.shown}: needs CAP_SYS_ADMIN, fsopen(2), and a source of at most 255 bytes`,
      );
    const { fd, by } = detached ?? (await mountFuse(mountpoint, made));
    const connected = this.connect(fd, kept);
    if (typeof connected === 'string') {
      this.end(connected);
      detached?.close();
      return { by, safety: undefined };
    }
    if (detached) await this.place(detached, mountpoint, connected);
    const confinement = this.confine(connected, kept);
    if (!detached) this.serve(connected);
    return { by, safety: this.safety(connected, confinement, restrictions), left: connected.left() };
  }

  async adopt(handed: HandedConnection, kept: Kept): Promise<Mounted> {
    const { server, namespace } = this;
    if (namespace)
      throw new ErrnoError(
        EINVAL,
        `${namespace.shown}: ${printable(handed.shown)} is mounted already, without a mapping`,
      );
    handed.check(server.restrictions);
    const by = mounter();
    const connected = handed.orNotMounted(() => this.connect(handed.fd, kept));
    if (typeof connected === 'string') {
      this.end(connected);
      return { by, safety: undefined };
    }
    const confinement = this.confine(connected, kept);
    this.serve(connected);
    return { by, safety: this.safety(connected, confinement, server.restrictions), left: connected.left() };
  }

  private connect(fd: number, { lasting, connected }: Kept): Connected | string {
    const connection = this.server.connect(fd, this.log, trace, lasting);
    if (typeof connection === 'string') return connection;
    if (lasting && !connection.left().connection.flags.has('HAS_RESEND'))
      throw new ErrnoError(EINVAL, 'option restart=on: needs Linux 6.9, which sends requests again');
    connected(fd);
    return connection;
  }

  private confine({ passthrough }: Connected, { isWatched }: Kept): Confinement | string {
    const limits = isWatched ? this.limits : 'there is no shell that would unmount';
    return typeof limits === 'string' ? limits : limits.enter(passthrough === true);
  }

  private safety(
    { passthrough, counters }: Connected,
    confinement: Confinement | string,
    restrictions: readonly Restriction[],
  ): Safety {
    const { stack, driver } = this.plan;
    return { protection: protectionOf(stack, driver, passthrough, restrictions), confinement, counters };
  }

  /** Serves before the mount is in its place. Until then only a shell of this process can send requests. */
  private async place(detached: DetachedMount, mountpoint: MountPoint, connected: Connected): Promise<void> {
    this.serve(connected);
    const { namespace } = this;
    try {
      if (this.server.mountsMerged) await this.takeMerged(detached, mountpoint, connected);
      if (namespace) detached.mapIds(namespace.fd, namespace.shown);
      await detached.place(mountpoint);
    } finally {
      detached.close();
      if (namespace) native.close(namespace.fd);
    }
  }

  private async takeMerged(detached: DetachedMount, { shown }: MountPoint, connected: Connected): Promise<void> {
    const name = connected.holdMerged(true);
    const taken = await Promise.race([detached.take(name), this.ended]);
    if (typeof taken === 'string') throw new ErrnoError(EIO, `${printable(shown)}: ${taken} too early`);
    if (!taken) connected.holdMerged(false);
  }

  private serve({ serve }: Connected): void {
    serve().then(this.end, (error: Error) => this.end(`serving failed: ${error.message}`));
  }
}

function openNamespace({ driver }: MountPlan): { fd: number; shown: string } | undefined {
  const { idmap } = driver;
  if (idmap === undefined) return undefined;
  const shown = `option idmap=${printable(idmap)}`;
  return { fd: must(native.openat2(AT_FDCWD, idmap, 0, 0), shown), shown };
}

/** Writes a line to stderr. A failure to write it must not end the mount. */
function trace(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {}
}
