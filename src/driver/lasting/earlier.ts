/** What the server of a mount leaves to one in another process that goes on with the connection when it has ended. */
import type { Nodeid } from '../../fuse/filesystem.ts';
import type { InitResult } from '../../fuse/init.ts';
import { getU64, putU64 } from '../../sys/bytes.ts';
import { must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';

/** A connection as its servers have left it so far. */
export interface Earlier {
  readonly connection: InitResult;
  /** Whether the kernel's root holds only the directory that is the root of the tree. */
  readonly holdsMerged: boolean;
}

/** A connection that outlives its server. */
export interface Lasting {
  readonly ledger: BackingLedger;
  /** undefined for the first server. */
  readonly earlier: Earlier | undefined;
}

/** The file starts with the number of servers, a u64. Entries follow. */
const HEADER_BYTES = 8;
/** An entry of the file; a free one is all zero. */
const Entry = {
  nodeid: 0, // u64
  id: 8, // u64
  SIZE: 16,
} as const;

/** The number of handles that one server may give; each has numbers of its own. */
const HANDLES = 2 ** 32;

/**
 * The backing ids of a mount, in a file that outlives its process. The file has no more entries than ids were in use at a time.
 */
export class BackingLedger {
  /** Handles of earlier servers are below this one. */
  readonly firstHandle: number;
  private readonly fd: number;
  /** The entry of each id. */
  private readonly places = new Map<number, number>();
  private readonly free: number[] = [];
  private readonly entry = new Uint8Array(Entry.SIZE);
  private readonly view = new DataView(this.entry.buffer);
  /** The number of entries. */
  private length = 0;

  /** Counts this process among the servers of the mount. @param fd of the file, which is empty at first */
  constructor(fd: number) {
    this.fd = fd;
    const header = new Uint8Array(HEADER_BYTES);
    const view = new DataView(header.buffer);
    const isFirst = native.pread(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES;
    const earlier = isFirst ? 0 : getU64(view, 0);
    this.firstHandle = earlier * HANDLES + 1;
    putU64(view, 0, earlier + 1);
    must(native.pwrite(fd, header, 0, HEADER_BYTES, 0), 'the file of backing ids');
  }

  /** The ids that are in use, by their nodes. */
  read(): Map<Nodeid, number> {
    const found = new Map<Nodeid, number>();
    const { fd, entry, view } = this;
    while (native.pread(fd, entry, 0, Entry.SIZE, positionOf(this.length)) === Entry.SIZE) {
      const id = getU64(view, Entry.id);
      if (id === 0) this.free.push(this.length);
      else {
        this.places.set(id, this.length);
        found.set(getU64(view, Entry.nodeid) as Nodeid, id);
      }
      this.length++;
    }
    return found;
  }

  /** Notes an id. Must be called before the answer that has the kernel open a file with it. */
  add(id: number, nodeid: Nodeid): void {
    const place = this.free.pop() ?? this.length++;
    this.places.set(id, place);
    this.write(place, nodeid, id);
  }

  /** Removes an id. Must be called while it is still registered: afterwards the kernel may give it to another file. */
  remove(id: number): void {
    const place = this.places.get(id);
    if (place === undefined) return;
    this.places.delete(id);
    this.write(place, 0 as Nodeid, 0);
    this.free.push(place);
  }

  private write(place: number, nodeid: Nodeid, id: number): void {
    putU64(this.view, Entry.nodeid, nodeid);
    putU64(this.view, Entry.id, id);
    must(native.pwrite(this.fd, this.entry, 0, Entry.SIZE, positionOf(place)), 'the file of backing ids');
  }
}

const positionOf = (place: number): number => HEADER_BYTES + place * Entry.SIZE;
