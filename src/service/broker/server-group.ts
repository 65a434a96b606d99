/**
 * The mounts that one server process serves, and what becomes of them when it dies: another process goes on with all of them. If that
 * dies at once, too, the mounts are divided among two processes, and so on, until the one that makes servers die is alone.
 */
import { randomInt } from 'node:crypto';
import { close } from 'node:fs';
import { EIO, ErrnoError } from '../../sys/errno.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import type { ConnectionFields, Serve, ServerReport } from '../server/orders.ts';
import { forgetful, type Keeper } from './kept/keeper.ts';
import { serverName, serverRecord } from './kept/records.ts';
import { type Domain, type RunningServer, type ServerEvents, ServerProcess } from './server-process.ts';

/** A process that lived for less than this has died at once. */
const SOON_MS = 2000;
/** How many may die at once, one after the other, before the mounts are divided, or a single one is given up. */
const DEATHS_MAX = 2;

/** A connection that a server serves. The broker holds its descriptors, which outlive the server. */
export interface ServedMount {
  readonly order: Serve;
  /** /dev/fuse, the file of backing ids, the image, and directories of objects; closed when the mount has ended. */
  readonly fds: readonly number[];
  /** The result of INIT, once the kernel has sent it. */
  connection?: ConnectionFields;
  /** The digest of the image, once it is known. */
  digest?: string;
  /** Called once, when requests can be answered. */
  readonly onReady: () => void;
  /** Called when another group has it. */
  readonly onMove: () => void;
  /** Called once, when the mount has ended or was given up. */
  readonly onEnd: (error: ErrnoError | undefined, how: string) => void;
}

/** Closes descriptors on another thread, one after the other: a client's file may be on a filesystem that does not answer. */
function closeElsewhere([fd, ...others]: readonly number[]): void {
  if (fd !== undefined) close(fd, () => closeElsewhere(others));
}

/** The largest number that randomInt of node:crypto gives. */
const NUMBER_MAX = 2 ** 48 - 1;

export class ServerGroup {
  /** Distinguishes the group from all others, of earlier brokers, too. */
  number: number = randomInt(NUMBER_MAX);
  private readonly readiness: Readiness;
  readonly domain: Domain;
  private readonly log: (line: string) => void;
  private readonly keeper: Keeper;
  /** Whether it is one of an earlier broker. */
  private isKept = false;
  private readonly mounts = new Map<number, ServedMount>();
  private process: ServerProcess | undefined;
  private deaths = 0;
  /** Groups that were divided from this one. */
  private others: ServerGroup[] = [];
  private onEmpty = (): void => {};

  /** @param keeper keeps what another broker needs to go on with the server */
  constructor(readiness: Readiness, domain: Domain, log: (line: string) => void, keeper: Keeper = forgetful) {
    this.readiness = readiness;
    this.domain = domain;
    this.log = log;
    this.keeper = keeper;
  }

  /** The group of an earlier broker that had a number: this one, or one that was divided from it. */
  kept(number: number): ServerGroup {
    if (!this.isKept) this.number = number;
    this.isKept = true;
    if (this.number === number) return this;
    const known = this.others.find(other => other.number === number);
    return known ?? this.another().kept(number);
  }

  /** Goes on with a process of an earlier broker. */
  adopt(running: RunningServer): void {
    this.process = new ServerProcess(this.readiness, running, this.events);
  }

  /** Goes on with a mount of an earlier broker, which its process serves. */
  take(mount: ServedMount): void {
    this.mounts.set(mount.order.id, mount);
  }

  /** Has a process serve what no process does, in groups that were divided, too. */
  resume(): void {
    for (const group of [this, ...this.others])
      if (group.process === undefined && group.mounts.size > 0) group.restart();
  }

  /** The group that a mount is in at present; undefined if it has ended. */
  groupOf(id: number): ServerGroup | undefined {
    return this.mounts.has(id) ? this : this.others.find(other => other.groupOf(id))?.groupOf(id);
  }

  /** The number of mounts, with those of divided groups. */
  get size(): number {
    return this.others.reduce((sum, { size }) => sum + size, this.mounts.size);
  }

  /** The process ID of the server of a mount; undefined if it has none. */
  pidOf(id: number): number | undefined {
    return this.groupOf(id)?.process?.pid;
  }

  /** Starts the process before the first mount needs it. */
  warm(): void {
    this.process ??= this.start();
  }

  serve(mount: ServedMount): void {
    this.mounts.set(mount.order.id, mount);
    this.warm();
    this.order(mount);
  }

  private get events(): ServerEvents {
    return { onReport: report => this.hear(report), onDeath: () => this.survive() };
  }

  private start(): ServerProcess {
    const started = ServerProcess.start(this.readiness, this.domain, this.events);
    this.keeper.keep(...serverRecord(this.number, this.domain, started.running));
    return started;
  }

  /** A group that is divided from this one, until its last mount ends. */
  private another(): ServerGroup {
    const other = new ServerGroup(this.readiness, { ...this.domain, staysWarm: false }, this.log, this.keeper);
    this.add(other);
    return other;
  }

  private add(other: ServerGroup): void {
    this.others.push(other);
    other.onEmpty = () => {
      this.others = this.others.filter(each => each !== other);
      for (const each of other.others) this.add(each);
    };
  }

  private order({ order, fds, connection }: ServedMount): void {
    this.process?.send({ ...order, connection }, fds);
  }

  private hear(report: ServerReport): void {
    if (report.kind === 'log') this.log(`${this.domain.name}: ${report.line}`);
    if (report.kind === 'log' || report.kind === 'begun') return;
    const mount = this.mounts.get(report.id);
    if (mount === undefined) return;
    if (report.kind === 'ready') {
      const isFirst = mount.connection === undefined;
      mount.connection = report.connection;
      mount.digest = report.digest;
      if (isFirst) mount.onReady();
      return;
    }
    this.end(mount, report.errno === 0 ? undefined : new ErrnoError(report.errno, report.how), report.how);
  }

  private end(mount: ServedMount, error: ErrnoError | undefined, how: string): void {
    this.mounts.delete(mount.order.id);
    closeElsewhere(mount.fds);
    if (this.mounts.size === 0 && !this.domain.staysWarm) {
      this.process?.stop();
      this.forget();
      this.onEmpty();
    }
    mount.onEnd(error, how);
  }

  /** Ends a mount: its users get ENOTCONN unless it has been unmounted. */
  abandon(mount: ServedMount, error: ErrnoError): void {
    const { id } = mount.order;
    if (this.mounts.has(id)) {
      this.process?.send({ kind: 'end', id }, []);
      this.end(mount, error, error.message);
    } else for (const other of this.others) other.abandon(mount, error);
  }

  /** Goes on after the process has died. */
  private survive(): void {
    const { process, mounts, domain } = this;
    this.forget();
    if (process === undefined || mounts.size === 0) return;
    this.deaths = process.ageMs < SOON_MS ? this.deaths + 1 : 0;
    const count = `${mounts.size} ${mounts.size === 1 ? 'mount' : 'mounts'}`;
    if (this.deaths <= DEATHS_MAX) {
      this.log(`${domain.name}: process ${process.pid} has died; another goes on with ${count}`);
    } else if (mounts.size > 1) {
      this.log(`${domain.name}: ${this.deaths} processes have died at once; two go on with ${count}`);
      this.divide();
    } else {
      for (const mount of mounts.values()) {
        const why = `${mount.order.image}: given up: its servers die at once`;
        this.log(`${domain.name}: ${why}`);
        this.end(mount, new ErrnoError(EIO, why), why);
      }
      return;
    }
    this.restart();
  }

  private restart(): void {
    this.warm();
    for (const mount of this.mounts.values()) this.order(mount);
  }

  private forget(): void {
    this.process = undefined;
    this.keeper.drop(serverName(this.number));
  }

  /** Gives half of the mounts to a new group. Both are divided again if their next process dies at once. */
  private divide(): void {
    const all = [...this.mounts.values()];
    const other = this.another();
    other.deaths = DEATHS_MAX;
    this.deaths = DEATHS_MAX;
    for (const mount of all.slice(Math.ceil(all.length / 2))) {
      this.mounts.delete(mount.order.id);
      other.serve(mount);
      mount.onMove();
    }
  }
}
