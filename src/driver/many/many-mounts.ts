/** Serves the mounts of many images on one thread. They share room for messages, threads that measure, and the time. */
import { Device, type End, TURN_MS } from '../../fuse/device.ts';
import { Dispatcher, ReplyBuffers } from '../../fuse/dispatch.ts';
import type { InitResult } from '../../fuse/init.ts';
import { Pause } from '../../fuse/pause.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { ENOTCONN, ErrnoError } from '../../sys/errno.ts';
import { sleeperOn } from '../../sys/event-loop.ts';
import { native } from '../../sys/native.ts';
import { EPOLLIN, Readiness } from '../../sys/sockets/readiness.ts';
import { MeasurePool } from '../../verity/measure-pool.ts';
import { Backing } from '../backing.ts';
import { cachePolicy } from '../cache.ts';
import { Files, type OpenReply } from '../files.ts';
import { OverlayFilesystem } from '../filesystem.ts';
import type { Lasting } from '../lasting/earlier.ts';
import { Measurer } from '../measurer.ts';
import type { DriverOptions } from '../options.ts';

/** The number of files that a mount keeps open after their last close. */
const IDLE_FILES_MAX = 256;

/** A mount to serve. */
export interface MountToServe {
  /** Descriptor of /dev/fuse, which belongs to the mount from now on. */
  readonly fd: number;
  /** An image above data-only layers; see `Overlay.recalls`. It is closed with the mount. */
  readonly overlay: Overlay;
  readonly options: DriverOptions;
  /** Whether this process may register files for passthrough. */
  readonly mayPassThrough: boolean;
  readonly lasting: Lasting;
  /** Called once, when the kernel can send requests. */
  readonly onReady: (connection: InitResult) => void;
  /** Called once, after all is closed. */
  readonly onEnd: (how: End | ErrnoError) => void;
}

/** A mount that is served. */
class Session {
  readonly device: Device;
  private readonly dispatcher: Dispatcher;
  readonly mount: MountToServe;
  private isReady = false;

  constructor(mount: MountToServe, shared: { buffers: ReplyBuffers; pool: MeasurePool }, log: (line: string) => void) {
    this.mount = mount;
    const { fd, overlay, options, lasting } = mount;
    const backing = new Backing(fd, mount.mayPassThrough, log, lasting.ledger);
    const files = new Files(overlay, backing, {
      idleMax: IDLE_FILES_MAX,
      verify: options.verify,
      firstHandle: lasting.ledger.firstHandle,
      measurer: new Measurer<OpenReply | number>(shared.pool),
    });
    const visible = { acl: options.acl, trusted: false, statfs: options.statfs };
    const filesystem = new OverlayFilesystem(overlay, files, cachePolicy(overlay, options), visible);
    const wanted = {
      passthroughDepth: mount.mayPassThrough ? 1 : 0,
      posixAcl: options.acl && overlay.hasAcl,
      outlives: true,
      mapsIds: true,
    } as const;
    this.dispatcher = new Dispatcher(filesystem, { wanted, log, buffers: shared.buffers });
    this.device = new Device(fd, this.dispatcher, { log });
  }

  /** Goes on with the connection of an earlier process; otherwise INIT is the first request. */
  begin(): void {
    const { earlier } = this.mount.lasting;
    if (earlier === undefined) return;
    this.device.resume(earlier.connection);
    this.reportReady(earlier.connection);
  }

  get isAwaited(): boolean {
    return this.dispatcher.isAwaited;
  }

  /** Answers requests for a moment. @returns how the connection ended; undefined if it goes on. Throws ErrnoError. */
  answer(): End | undefined {
    const end = this.device.answerUntil(performance.now() + TURN_MS, now);
    const { connection } = this.dispatcher;
    if (connection === undefined && end === 'idle')
      throw new ErrnoError(ENOTCONN, 'the connection did not begin with INIT'); // another process has served it
    if (connection && !this.isReady) this.reportReady(connection);
    return end === 'idle' ? undefined : end;
  }

  private reportReady(connection: InitResult): void {
    this.isReady = true;
    this.mount.onReady(connection);
  }

  end(): void {
    this.dispatcher.end();
  }
}

const now = (): number => performance.now();

export class ManyMounts {
  /** The caller may wait for other descriptors here, too. */
  readonly readiness = new Readiness();
  private readonly shared = { buffers: new ReplyBuffers(), pool: new MeasurePool() };
  private readonly sessions = new Map<number, Session>();
  /** Those that have deferred requests. */
  private readonly awaited = new Set<Session>();
  private readonly log: (line: string) => void;

  /** @param log gets a line for each event that administrators should know */
  constructor(log: (line: string) => void) {
    this.log = log;
  }

  /** Serves between the events of the loop from now on. */
  run(): void {
    const pause = new Pause(sleeperOn(this.readiness.fd));
    this.readiness.run(pause, () => this.replyDeferred());
  }

  /** The number of mounts. */
  get size(): number {
    return this.sessions.size;
  }

  /** Serves a mount from now on. A failure, too, is reported by `onEnd`. */
  add(mount: MountToServe): void {
    const { fd } = mount;
    try {
      const session = new Session(mount, this.shared, this.log);
      this.sessions.set(fd, session);
      session.begin();
      this.readiness.add(fd, EPOLLIN, () => this.answer(mount, session));
    } catch (error) {
      this.end(mount, error as ErrnoError);
    }
  }

  /** Serves a mount no longer. @param fd its descriptor, which is closed; nothing happens if there is none */
  remove(fd: number): void {
    const session = this.sessions.get(fd);
    if (session) this.end(session.mount, 'aborted');
  }

  private answer(mount: MountToServe, session: Session): void {
    try {
      const end = session.answer();
      if (session.isAwaited) this.awaited.add(session);
      if (end !== undefined) this.end(mount, end);
    } catch (error) {
      this.end(mount, error as ErrnoError);
    }
  }

  private end(mount: MountToServe, how: End | ErrnoError): void {
    const { fd, overlay } = mount;
    const session = this.sessions.get(fd);
    this.sessions.delete(fd);
    this.readiness.remove(fd);
    if (session) this.awaited.delete(session);
    if (session) session.end();
    else overlay.close();
    native.close(fd);
    mount.onEnd(how);
  }

  private replyDeferred(): void {
    for (const session of this.awaited) {
      session.device.replyDeferred();
      if (!session.isAwaited) this.awaited.delete(session);
    }
  }
}
