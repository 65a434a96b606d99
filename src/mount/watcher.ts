/**
 * A shell beside the daemon that keeps the rights that the daemon gives up. It unmounts on request, and when the daemon ends
 * without a word. It also removes the daemon's files for `lowerdata status`. It holds a socket and the directory of the mount
 * point, runs in a session of its own, and takes about a megabyte. Whatever it is sent, it unmounts only one FUSE mount, and
 * removes only those files.
 *
 *     mounting PATH ID         must come before the mount; ID is that of the mount that is there already
 *     mounted DEVICE NUMBER =SOURCE BY STATE  counts once; NUMBER is DEVICE as st_dev, SOURCE as mountinfo spells it
 *     look                     -> one line: seen, when the attributes of the root have been requested
 *     unmount [-l [dead]]      -> one line: unmounted, busy, or the error. dead: only if it is dead; served, if it is not
 *     restart DEATHS NODE PROGRAM  from now on, another daemon is started when this one dies; see restart/handover.ts
 *     replaced                 another shell watches the mount; this one ends
 *     gone                     the mount is gone; the shell ends
 */
import { read, readFileSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Mounter } from '../fuse/mount.ts';
import type { MountPoint } from '../fuse/mount-point.ts';
import { encodePath, type Mount } from '../fuse/mountinfo.ts';
import { bufferOf, byteStringFromText } from '../sys/bytes.ts';
import { EIO, ErrnoError, must } from '../sys/errno.ts';
import { native, packageDirectory } from '../sys/native.ts';
import { SOCK_STREAM } from '../sys/sockets/types.ts';

/**
 * Path of the program, which is read before the mount is made: the package may be moved or removed while it is mounted. It is
 * passed as text, so that the shell needs no descriptor for it.
 */
const script = join(packageDirectory, 'bin', 'watcher.sh');

export class Watcher {
  /** Whether the shell was started. Without it the mount works, but nothing unmounts it if the daemon dies. */
  isThere: boolean;
  private readonly by: Mounter;
  private readonly directory: number;
  private readonly text = readFileSync(script, 'latin1');
  /** A socket whose other end is the shell's standard input and output. */
  private fd: number;
  /** The lines that tell a shell about the mount. */
  private readonly told: string[] = [];
  /** Lines from the shell, once a request has been sent. */
  private lines: AsyncIterator<string> | undefined;

  /**
   * @param directory descriptor of the directory that holds the mount point
   * @param kept descriptors for the next daemon, in a later daemon of a mount; the shell does nothing before `restart`
   */
  constructor(by: Mounter, directory: number, kept?: readonly number[]) {
    this.by = by;
    this.directory = directory;
    [this.fd, this.isThere] = this.start(kept ?? [], kept !== undefined);
  }

  /** Starts a shell. @returns the socket, and whether it was started */
  private start(kept: readonly number[], isLater: boolean): [number, boolean] {
    const pair = new Int32Array(2);
    must(native.socketPair(pair, SOCK_STREAM), 'socketpair');
    const [ours = -1, theirs = -1] = pair;
    const words = ['sh', '-fc', this.text, 'lowerdata-watcher', this.by, isLater ? 'later' : 'first'];
    const passed = Int32Array.from([this.directory, ...kept], (fd, _, least = 3 + kept.length + 1) =>
      must(native.duplicate(fd, least), 'dup'),
    );
    const process = native.spawn('/bin/sh', bufferOf(words.map(word => `${word}\0`).join('')), theirs, passed);
    for (const fd of [theirs, ...passed]) native.close(fd);
    return [ours, process > 0];
  }

  /**
   * Has a shell hold the descriptors that another daemon needs. It takes the place of the first one. Must be called before the
   * directory of the mount point is closed.
   */
  keep(descriptors: readonly number[]): void {
    const [fd, isThere] = this.start(descriptors, false);
    if (!isThere) throw new ErrnoError(EIO, 'option restart=on: /bin/sh cannot be started');
    this.say('replaced');
    native.close(this.fd);
    [this.fd, this.isThere] = [fd, isThere];
    for (const line of this.told) this.say(line);
  }

  /** Has the shell start another daemon when this one dies. @param deaths how many have died in quick succession */
  restart(deaths: number, node: string, program: string): void {
    const [first, second] = [node, program].map(path => encodePath(byteStringFromText(path)));
    this.say(`restart ${deaths} ${first} ${second}`);
  }

  /** Must be called before the mount is made. */
  mounting(point: Pick<MountPoint, 'shown' | 'mountId'>): void {
    this.tell(`mounting ${encodePath(point.shown)} ${point.mountId ?? 0}`);
  }

  /**
   * Must be called when the mount is made.
   * @param stateFile removed with the mount, together with the socket beside it; '' for none
   */
  mounted({ device, spelledSource }: Mount, by: Mounter, stateFile: string): void {
    this.tell(`mounted ${device} ${statDevice(device)} =${spelledSource} ${by} ${byteStringFromText(stateFile)}`);
  }

  private tell(line: string): void {
    this.told.push(line);
    this.say(line);
  }

  /**
   * Makes the kernel request the attributes of the root. A filesystem that copies them when it mounts, as overlayfs does, would
   * otherwise get a directory that nobody may enter. The process that serves the mount cannot make this request: if killed at
   * that moment, it would wait for its own answer forever. Settles when the root is known, or when the watcher has ended.
   */
  look(): Promise<void> {
    if (!this.isThere) return Promise.resolve();
    this.say('look');
    return new Promise(done => read(this.fd, Buffer.alloc('seen\n'.length), () => done()));
  }

  /**
   * Unmounts, lazily or only if the mount is not in use. Only one request may run at a time.
   * @returns true if it is unmounted, false if it is in use
   * Throws ErrnoError for all other failures.
   */
  unmount(lazy: boolean): Promise<boolean> {
    return this.request(lazy ? 'unmount -l' : 'unmount');
  }

  /** Unmounts lazily if nobody serves the mount any more. @returns whether it did */
  unmountIfDead(): Promise<boolean> {
    return this.request('unmount -l dead');
  }

  private async request(what: string): Promise<boolean> {
    this.say(what);
    const answer = await this.next();
    if (answer === 'unmounted' || answer === 'busy' || answer === 'served') return answer === 'unmounted';
    throw new ErrnoError(EIO, answer ?? 'the watcher is gone, who would unmount');
  }

  /** Must be called when the mount is gone or was never made. Settles when the shell has removed the files and ended. */
  async gone(): Promise<void> {
    this.say('gone');
    while ((await this.next()) !== undefined);
  }

  /** The next line from the shell; undefined if it has ended. */
  private async next(): Promise<string | undefined> {
    const lines = this.lines ?? createInterface({ input: new Socket({ fd: this.fd }) })[Symbol.asyncIterator]();
    this.lines = lines;
    try {
      const { value, done } = await lines.next();
      return done ? undefined : value;
    } catch {
      return undefined; // ECONNRESET: it was killed before it had read all requests
    }
  }

  private say(line: string): void {
    try {
      writeSync(this.fd, bufferOf(`${line}\n`));
    } catch {} // the shell has ended
  }
}

/** st_dev of `major:minor`. Source: glibc's sys/sysmacros.h, makedev. */
function statDevice(device: string): bigint {
  const [major, minor] = device.split(':').map(BigInt) as [bigint, bigint];
  return ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) | (minor & 0xffn);
}
