/** `Sign`: a helper measures the image of a client, and the process with the key signs the digest. Neither does what the other does. */
import type { Readiness } from '../../sys/sockets/readiness.ts';
import type { Algorithm } from '../../verity/algorithms.ts';
import { Refusal } from '../broker/refusal.ts';
import { NOBODY } from '../helper/orders.ts';
import type { CallContext } from '../varlink/implementation.ts';
import { type Audit, doneDigest, failing } from './audit.ts';
import { runTask } from './helper-process.ts';
import type { KeyHolder } from './key-holder.ts';
import { isAmong, type Principals } from './principals.ts';
import { Slots } from './slots.ts';

/** The key, and for whom it signs. */
export interface SignOptions {
  readonly holder: KeyHolder;
  /** The subject of its certificate. */
  readonly subject: string;
  readonly users: Principals;
}

/** A disk takes a second for 100 MB at worst, and an image has some tens. */
const TIMEOUT_MS = 120_000;
/** Processes that measure. */
const SLOTS = 16;

export class Signer {
  private readonly readiness: Readiness;
  private readonly options: SignOptions | undefined;
  private readonly audit: Audit;
  private readonly slots = new Slots(SLOTS);

  /** @param options undefined if the service has no key */
  constructor(readiness: Readiness, options: SignOptions | undefined, audit: Audit) {
    this.readiness = readiness;
    this.options = options;
    this.audit = audit;
  }

  /**
   * Signs the digest of an image. @param image descriptor of the client, which keeps it
   * @returns the signature in base64. Throws Refusal.
   */
  async sign(
    { peer, signal }: Pick<CallContext, 'peer' | 'signal'>,
    image: number,
    algorithm: Algorithm,
  ): Promise<{ readonly signature: string; readonly digest: string }> {
    const { options } = this;
    if (options === undefined) return this.audit.refuse(peer, 'NotAllowed', 'sign: the service has no key');
    if (!isAmong(options.users, peer))
      return this.audit.refuse(
        peer,
        'NotAllowed',
        `sign: uid ${peer.uid} is not among those for whom the service signs`,
      );
    const onEnd = this.slots.take(peer.uid);
    const life = { timeoutMs: TIMEOUT_MS, signal, onEnd };
    return failing(this.audit, peer, 'sign', async () => {
      const report = await runTask(this.readiness, { kind: 'measure', as: NOBODY, algorithm }, [image], life);
      if (report.kind === 'unfit') throw new Refusal('InvalidParameter', { parameter: 'imageFileDescriptor' });
      const digest = doneDigest(report);
      const signature = await options.holder.sign(digest);
      this.audit.note(peer, `sign: ${digest}, by the key of ${options.subject}`);
      return { signature, digest };
    });
  }
}
