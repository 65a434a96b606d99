/** Passthrough: the kernel reads a file's data itself, from a descriptor that is registered at open. */
import type { Data } from '../layers/layer.ts';
import { EPERM, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

export class Backing {
  private readonly session: number;
  private readonly log: (line: string) => void;
  private trying: boolean;

  /**
   * @param session the descriptor of /dev/fuse
   * @param enabled whether to try at all
   */
  constructor(session: number, enabled: boolean, log: (line: string) => void) {
    this.session = session;
    this.trying = enabled;
    this.log = log;
  }

  disable(): void {
    this.trying = false;
  }

  /** Registers data with the kernel. @returns its backing id, or 0 if reads must come to this process */
  open({ fd }: Pick<Data, 'fd'>): number {
    if (!this.trying || fd < 0) return 0;
    const id = native.fuseBackingOpen(this.session, fd);
    if (id > 0) return id;
    // EPERM: no passthrough in this connection, or no CAP_SYS_ADMIN. Other errors concern only this file, which may be stacked
    // too deep.
    if (id === -EPERM) {
      this.trying = false;
      this.log(`no passthrough: ${errnoText(id)}; reads are served from this process`);
    }
    return 0;
  }

  close(id: number): void {
    if (id > 0) native.fuseBackingClose(this.session, id);
  }
}
