/** Passthrough: the kernel reads a file's data itself, from a descriptor that is registered at open. */
import type { Nodeid } from '../fuse/filesystem.ts';
import type { Data } from '../layers/layer.ts';
import { EPERM, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { BackingLedger } from './lasting/earlier.ts';

export class Backing {
  private readonly session: number;
  private readonly log: (line: string) => void;
  private readonly ledger: BackingLedger | undefined;
  /** Files that an earlier process has registered, which may still be open. The kernel takes no other ids for their nodes. */
  private readonly earlier: Map<Nodeid, number>;
  private trying: boolean;

  /**
   * @param session the descriptor of /dev/fuse
   * @param enabled whether to try at all
   * @param ledger where ids are noted for a later process; it may have those of an earlier one
   */
  constructor(session: number, enabled: boolean, log: (line: string) => void, ledger?: BackingLedger) {
    this.session = session;
    this.trying = enabled;
    this.log = log;
    this.ledger = ledger;
    this.earlier = ledger?.read() ?? new Map();
  }

  disable(): void {
    this.trying = false;
  }

  /** Registers the data of a node with the kernel. @returns its backing id, or 0 if reads must come to this process */
  open({ fd }: Pick<Data, 'fd'>, nodeid: Nodeid): number {
    if (!this.trying || fd < 0) return 0;
    const earlier = this.earlier.get(nodeid);
    if (earlier !== undefined) return earlier;
    const id = native.fuseBackingOpen(this.session, fd);
    if (id > 0) {
      this.ledger?.add(id, nodeid);
      return id;
    }
    // EPERM: no passthrough in this connection, or no CAP_SYS_ADMIN. Other errors concern only this file, which may be stacked
    // too deep.
    if (id === -EPERM) {
      this.trying = false;
      this.log(`no passthrough: ${errnoText(id)}; reads are served from this process`);
    }
    return 0;
  }

  close(id: number, nodeid: Nodeid): void {
    if (id <= 0 || this.earlier.get(nodeid) === id) return;
    this.ledger?.remove(id);
    native.fuseBackingClose(this.session, id);
  }

  /** Must be called when the kernel has forgotten a node: then no process has its file open. */
  forget(nodeid: Nodeid): void {
    const id = this.earlier.get(nodeid);
    if (id === undefined) return;
    this.earlier.delete(nodeid);
    this.close(id, nodeid);
  }
}
