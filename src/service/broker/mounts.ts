/** The mounts of the service: one superblock for an image, of which each client gets a mount of its own. */
import { DetachedMount } from '../../fuse/detached-mount.ts';
import { EINVAL, EPERM, ErrnoError, ETIMEDOUT, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { versionOf } from '../file-version.ts';
import { forgetful, type Keeper } from './kept/keeper.ts';
import { type KeptMount, type KeptNumbers, mountName, mountRecord, numbersRecord } from './kept/records.ts';
import type { ServedMount, ServerGroup } from './server-group.ts';

/** How long a superblock stays for another client after the last one has asked for it. */
const HELD_MS = 60_000;
/** So many numbers of mounts are reserved at once: a server may have a mount that its broker has not lived to keep. */
const RESERVED = 1_000_000;
/** How long a server may take until it answers. */
const READY_MS = 10_000;

/** An image that may be mounted, and who serves it. */
export interface ImageToMount {
  /** Descriptor of the image, which belongs to the mount from now on. */
  readonly fd: number;
  /** Names the image in messages. */
  readonly shown: string;
  /** The fs-verity digest that it must have; undefined: any. */
  readonly digest: string | undefined;
  readonly verity: 'off' | 'on' | 'require';
  readonly group: ServerGroup;
}

/** A connection that is served, and those who have asked for it. */
export interface Superblock {
  readonly id: number;
  readonly shown: string;
  /** The fs-verity digest of the image in hexadecimal. */
  readonly digest: string;
  /** Whether the client has made the mount itself. */
  readonly isOfClient: boolean;
  /** In milliseconds since 1970. */
  readonly startedAt: number;
  readonly users: ReadonlySet<number>;
  /** The process that serves it at present. */
  readonly pid: number | undefined;
}

/** A superblock under construction or in use. */
class Held implements Superblock {
  readonly id: number;
  readonly startedAt: number;
  readonly isOfClient: boolean;
  readonly users = new Set<number>();
  readonly group: ServerGroup;
  readonly served: ServedMount;
  /** Keeps the superblock for other clients; undefined if no other can have it. */
  detached: DetachedMount | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Called when it has ended. */
  forget: () => void = () => {};

  constructor(served: ServedMount, group: ServerGroup, made: Pick<Superblock, 'startedAt' | 'isOfClient'>) {
    this.id = served.order.id;
    this.served = served;
    this.group = group;
    this.startedAt = made.startedAt;
    this.isOfClient = made.isOfClient;
  }

  get shown(): string {
    return this.served.order.image;
  }

  get digest(): string {
    return this.served.digest ?? '';
  }

  get pid(): number | undefined {
    return this.group.pidOf(this.id);
  }

  /** Keeps the superblock for HELD_MS from now on. */
  hold(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.release(), HELD_MS);
    this.timer.unref();
  }

  /** From now on, it ends with its last mount. */
  release(): void {
    clearTimeout(this.timer);
    this.detached?.close();
    this.detached = undefined;
  }
}

export class Mounts {
  private readonly held = new Map<number, Held>();
  /** Superblocks that other clients can have, by what they show. */
  private readonly byKey = new Map<string, Promise<Held>>();
  private readonly log: (line: string) => void;
  private readonly keeper: Keeper;
  private next = 1;
  /** Another broker begins with this number. */
  private reserved = 1;

  /** @param keeper keeps what another broker needs to go on with mounts */
  constructor(log: (line: string) => void, keeper: Keeper = forgetful) {
    this.log = log;
    this.keeper = keeper;
  }

  /** Goes on with a mount of an earlier broker. @param fds those of `ServedMount`, which belong to the mount from now on */
  adopt({ order, connection, digest, users, ...made }: KeptMount, fds: readonly number[], group: ServerGroup): void {
    const served: ServedMount = {
      ...{ order, fds, connection, digest },
      onReady: () => {},
      onMove: () => this.keep(held),
      onEnd: (_, how) => this.ended(held, how),
    };
    const held = new Held(served, group, made);
    for (const uid of users) held.users.add(uid);
    this.held.set(order.id, held);
    group.take(served);
  }

  /** Leaves out the numbers that an earlier broker has reserved. */
  reserve({ before }: KeptNumbers): void {
    [this.next, this.reserved] = [before, before];
  }

  private number(): number {
    if (this.next >= this.reserved) {
      this.reserved += RESERVED;
      this.keeper.keep(...numbersRecord(this.reserved));
    }
    return this.next++;
  }

  /** All superblocks that are served. */
  list(): Superblock[] {
    return [...this.held.values()].filter(({ served }) => served.connection !== undefined);
  }

  get(id: number): Superblock | undefined {
    return this.held.get(id);
  }

  /** The number of superblocks that a user has asked for. */
  countOf(uid: number): number {
    let count = 0;
    for (const { users } of this.held.values()) if (users.has(uid)) count++;
    return count;
  }

  /**
   * Mounts an image for a user. @param namespace descriptor of the user namespace whose ids it shows
   * @returns the descriptor of a mount that is attached nowhere, and its superblock
   * Throws ErrnoError; VerityError as EIO.
   */
  async mount(
    image: ImageToMount,
    uid: number,
    namespace: number | undefined,
  ): Promise<{ readonly fd: number; readonly superblock: Superblock }> {
    const key = keyOf(image);
    const known = await this.byKey.get(key)?.catch(() => undefined);
    const isKnown = known?.detached !== undefined;
    if (isKnown) native.close(image.fd);
    const held = isKnown ? known : await this.make(key, image);
    this.use(held, uid);
    held.hold();
    if (held.detached === undefined) throw new ErrnoError(ETIMEDOUT, `${image.shown}: ended while it was mounted`);
    return { fd: held.detached.copy(namespace), superblock: held };
  }

  /**
   * Mounts an image that no other client can have, as `mount` does. @param objects descriptors of directories of objects for this image
   * alone, which belong to the mount
   */
  async mountAlone(
    image: ImageToMount,
    uid: number,
    namespace: number | undefined,
    objects: readonly number[],
  ): Promise<{ readonly fd: number; readonly superblock: Superblock }> {
    const detached = this.detach(image, objects);
    const held = await this.begin(image, detached.fd, objects, detached);
    try {
      this.use(held, uid);
      return { fd: detached.copy(namespace), superblock: held };
    } finally {
      held.release();
    }
  }

  /**
   * Serves a connection that a client has mounted.
   * @param fuse its descriptor, which belongs to the mount from now on
   * @param objects descriptors of directories of objects for this image alone, which belong to the mount, too
   */
  async serve(image: ImageToMount, uid: number, fuse: number, objects: readonly number[] = []): Promise<Superblock> {
    const held = await this.begin(image, fuse, objects, undefined);
    this.use(held, uid);
    return held;
  }

  /** A user wants no more of a superblock. Mounts that are attached stay until they are unmounted. */
  release(id: number, uid: number): void {
    const held = this.held.get(id);
    if (held === undefined) return;
    if (held.users.delete(uid)) this.keep(held);
    if (held.users.size === 0) held.release();
  }

  private use(held: Held, uid: number): void {
    if (held.users.has(uid)) return;
    held.users.add(uid);
    this.keep(held);
  }

  /** Keeps a mount for another broker, from its first user on. */
  private keep({ id, served, group, users, startedAt, isOfClient }: Held): void {
    const { order, connection, digest = '', fds } = served;
    const at = group.groupOf(id);
    if (connection === undefined || at === undefined) return; // it has just ended
    const { number, domain } = at;
    const own = { order, connection, digest, users: [...users], startedAt, isOfClient };
    this.keeper.keep(...mountRecord({ group: number, domain, ...own }, fds));
  }

  private make(key: string, image: ImageToMount): Promise<Held> {
    const made = (async (): Promise<Held> => {
      const detached = this.detach(image, []);
      return this.begin(image, detached.fd, [], detached);
    })();
    this.byKey.set(key, made);
    const forget = (): void => {
      if (this.byKey.get(key) === made) this.byKey.delete(key);
    };
    made.then(held => {
      held.forget = forget;
    }, forget);
    return made;
  }

  /** Makes a mount that is attached nowhere. Throws ErrnoError; then all descriptors are closed. */
  private detach({ fd, shown }: ImageToMount, objects: readonly number[]): DetachedMount {
    const detached = DetachedMount.make({
      ...{ fsname: shown.slice(0, 200), subtype: 'lowerdata', allowOther: true },
      flags: ['nosuid', 'nodev'],
    });
    if (detached) return detached;
    for (const each of [fd, ...objects]) native.close(each);
    throw new ErrnoError(EPERM, 'the service may not mount: it needs CAP_SYS_ADMIN and fsopen(2)');
  }

  private begin(
    image: ImageToMount,
    fuse: number,
    objects: readonly number[],
    detached: DetachedMount | undefined,
  ): Promise<Held> {
    const id = this.number();
    const { shown, digest, verity, group } = image;
    return new Promise<Held>((resolve, reject) => {
      const late = setTimeout(() => group.abandon(served, new ErrnoError(ETIMEDOUT, `${shown}: no answer`)), READY_MS);
      const served: ServedMount = {
        order: { kind: 'serve', id, image: shown, digest, verity },
        fds: [fuse, must(native.memoryFile('lowerdata-backing'), 'memfd_create'), image.fd, ...objects],
        onReady: () => {
          clearTimeout(late);
          resolve(held);
        },
        onMove: () => this.keep(held),
        onEnd: (error, how) => {
          clearTimeout(late);
          this.ended(held, how);
          reject(error ?? new ErrnoError(EINVAL, `${shown}: ${how} before it answered`));
        },
      };
      const held = new Held(served, group, { startedAt: Date.now(), isOfClient: detached === undefined });
      held.detached = detached;
      this.held.set(id, held);
      group.serve(served);
    });
  }

  private ended(held: Held, how: string): void {
    held.release();
    this.held.delete(held.id);
    this.keeper.drop(mountName(held.id));
    held.forget();
    this.log(`mount ${held.id}: ${held.shown}: ${how}`);
  }
}

/** Images with the same key are served by one superblock. */
const keyOf = ({ fd, digest, verity }: ImageToMount): string => [versionOf(fd), digest ?? '', verity].join(' ');
