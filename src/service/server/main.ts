/** A server process of the service: serves the mounts of many images, as its broker orders. It knows no clients. */
import { boundPrograms, confinementText, Limits } from '../../driver/confinement.ts';
import { BackingLedger } from '../../driver/lasting/earlier.ts';
import { ManyMounts } from '../../driver/many/many-mounts.ts';
import { DRIVER_DEFAULTS } from '../../driver/options.ts';
import { IMAGE_DEFAULTS, settleRules } from '../../overlay/options/rules.ts';
import { EAGAIN, EIO, ErrnoError } from '../../sys/errno.ts';
import { collectWithoutHelp } from '../../sys/memory.ts';
import { native } from '../../sys/native.ts';
import { EPOLLIN } from '../../sys/sockets/readiness.ts';
import { type Begin, CHANNEL, LINE_MAX, receiveOrder, type Serve, type ServerReport, send } from './orders.ts';
import { SharedLayers } from './shared-layers.ts';

const O_NONBLOCK = 0o4000;

/** Serves until the broker is gone and no mount is left, and ends this process. */
export function serveMounts(): void {
  new Server().run();
}

class Server {
  private readonly layers = new SharedLayers();
  private readonly mounts = new ManyMounts(line => this.report({ kind: 'log', line: line.slice(0, LINE_MAX) }));
  /** Descriptors of /dev/fuse by the ids of mounts. */
  private readonly fds = new Map<number, number>();
  private mayPassThrough = false;
  private hasBroker = true;

  run(): void {
    collectWithoutHelp();
    native.setStatusFlags(CHANNEL, O_NONBLOCK);
    this.mounts.readiness.add(CHANNEL, EPOLLIN, () => this.obeyAll());
    this.mounts.run();
  }

  private report(report: ServerReport): void {
    try {
      if (this.hasBroker) send(CHANNEL, report);
    } catch {
      this.leaveBroker();
    }
  }

  /** Without its broker, the process goes on with the mounts that it has. */
  private leaveBroker(): void {
    if (this.hasBroker) this.mounts.readiness.remove(CHANNEL);
    this.hasBroker = false;
    if (this.mounts.size === 0) native.exit(0);
  }

  private obeyAll(): void {
    try {
      for (;;) {
        const received = receiveOrder(CHANNEL);
        if (received === undefined) break;
        const { order, fds } = received;
        if (order.kind === 'begin') this.begin(order, fds);
        else if (order.kind === 'serve') this.serve(order, fds);
        else this.mounts.remove(this.fds.get(order.id) ?? -1);
      }
      this.leaveBroker();
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EAGAIN) return;
      this.report({ kind: 'log', line: `a server ends: ${(error as Error).message}` });
      native.exit(1);
    }
  }

  private begin({ mayPassThrough }: Begin, fds: readonly number[]): void {
    for (const fd of fds) this.layers.addDirectory(fd);
    this.mayPassThrough = mayPassThrough;
    const layers = fds.map(fd => ({ path: `/proc/self/fd/${fd}`, dataOnly: true }));
    boundPrograms();
    const limits = new Limits({ ...settleRules({ followOrigin: false }, IMAGE_DEFAULTS), layers }, fds.length === 0);
    const confinement = confinementText(limits.enter(mayPassThrough));
    for (const fd of fds) native.close(fd);
    this.report({ kind: 'begun', confinement });
  }

  private serve(order: Serve, [fd = -1, ledger = -1, image = -1, ...own]: readonly number[]): void {
    const { id, connection } = order;
    try {
      const { overlay, digest, release } = this.layers.open(image, own, order);
      const flags = new Set(connection?.flags);
      this.fds.set(id, fd);
      const earlier = connection && { connection: { ...connection, flags }, holdsMerged: false };
      this.mounts.add({
        ...{ fd, overlay, options: DRIVER_DEFAULTS, mayPassThrough: this.mayPassThrough },
        lasting: { ledger: new BackingLedger(ledger), earlier },
        onReady: ({ minor, flags }) =>
          this.report({ kind: 'ready', id, digest, connection: { minor, flags: [...flags] } }),
        onEnd: how => {
          release();
          native.close(ledger);
          this.ended(id, how);
        },
      });
    } catch (error) {
      for (const one of [fd, ledger, image]) native.close(one);
      this.ended(id, error as Error);
    } finally {
      for (const one of own) native.close(one);
    }
  }

  private ended(id: number, how: string | Error): void {
    this.fds.delete(id);
    const errno = how instanceof ErrnoError ? how.errno : how instanceof Error ? EIO : 0;
    this.report({ kind: 'ended', id, how: (how instanceof Error ? how.message : how).slice(0, LINE_MAX), errno });
    if (!this.hasBroker && this.mounts.size === 0) native.exit(0);
  }
}
