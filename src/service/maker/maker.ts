/** `MakeImage`: images that helpers make for clients. */
import { openIn } from '../../sys/beneath.ts';
import { must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import { Refusal } from '../broker/refusal.ts';
import type { TreeOptions } from '../helper/orders.ts';
import type { CallContext } from '../varlink/implementation.ts';
import { type Audit, doneDigest, failing } from './audit.ts';
import { runTask } from './helper-process.ts';
import { Slots } from './slots.ts';

/** Reading a few GB of a client's data takes some seconds, and its metadata as long again. */
const TREE_TIMEOUT_MS = 300_000;
/** Processes that read trees. Each may need a GB of memory. */
const TREE_SLOTS = 4;

/** F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE. Source: linux/fcntl.h. */
const ALL_SEALS = 0xf;

type Caller = Pick<CallContext, 'peer' | 'signal'>;

export class Maker {
  private readonly readiness: Readiness;
  private readonly audit: Audit;
  private readonly trees = new Slots(TREE_SLOTS);

  constructor(readiness: Readiness, audit: Audit) {
    this.readiness = readiness;
    this.audit = audit;
  }

  /**
   * Makes an image of a directory, which is read with the client's rights. @param tree descriptor of the client, which keeps it
   * @returns a descriptor of the image for reading, which nobody can change any more
   * Throws Refusal.
   */
  async makeTree(
    { peer, signal }: Caller,
    tree: number,
    options: TreeOptions,
  ): Promise<{ readonly fd: number; readonly digest: string }> {
    const onEnd = this.trees.take(peer.uid);
    const life = { timeoutMs: TREE_TIMEOUT_MS, signal, onEnd };
    const { uid, gid, groups } = peer;
    const task = { kind: 'make', as: { uid, gid, groups }, options } as const;
    return failing(this.audit, peer, 'make', async () => {
      const image = must(native.memoryFile('lowerdata-image'), 'memfd_create');
      try {
        const report = await runTask(this.readiness, task, [tree, image], life);
        if (report.kind === 'unfit') throw new Refusal('InvalidParameter', { parameter: 'treeFileDescriptor' });
        const digest = doneDigest(report);
        must(native.addSeals(image, ALL_SEALS), 'F_ADD_SEALS');
        const fd = must(openIn(AT_FDCWD, `/proc/self/fd/${image}`, 0, 0), 'the image');
        this.audit.note(peer, `make: ${digest} of a tree`);
        return { fd, digest };
      } finally {
        native.close(image);
      }
    });
  }
}
