/** `MakeImage` of a reference: a helper with the rights of the repository's owner pulls the image, for users that are named. */
import { statSync } from 'node:fs';
import { parseReference } from '../../oci/reference.ts';
import { checkName } from '../../oci/repository.ts';
import { findImage } from '../../oci/stored/images.ts';
import { admission } from '../../policy/admission.ts';
import { PolicyDenial } from '../../policy/decide.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { attempt, ENOENT, ErrnoError } from '../../sys/errno.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { algorithmOfHex } from '../../verity/algorithms.ts';
import { Refusal } from '../broker/refusal.ts';
import type { Pull, PullSources } from '../helper/orders.ts';
import type { CallContext, Peer } from '../varlink/implementation.ts';
import { type Audit, doneDigest, failing } from './audit.ts';
import { runTask } from './helper-process.ts';
import { isAmong, type Principals } from './principals.ts';
import { Slots } from './slots.ts';

export interface PullingOptions {
  /** The repository; absolute. */
  readonly store: ByteString;
  readonly sources: PullSources;
  /** For whom the service pulls. */
  readonly users: Principals;
}

/** An image of some GB by a slow line. */
const TIMEOUT_MS = 3_600_000;
const SLOTS = 4;

export class Puller {
  private readonly readiness: Readiness;
  private readonly options: PullingOptions;
  private readonly audit: Audit;
  private readonly slots = new Slots(SLOTS);
  /** Names that images are being pulled for: two would not see each other. */
  private readonly names = new Set<string>();

  constructor(readiness: Readiness, options: PullingOptions, audit: Audit) {
    this.readiness = readiness;
    this.options = options;
    this.audit = audit;
  }

  /** Pulls an image of a registry into the store, and names it. @returns its digest. Throws Refusal. */
  async pull({ peer, signal }: Pick<CallContext, 'peer' | 'signal'>, reference: string, name: string): Promise<string> {
    if (!isAmong(this.options.users, peer))
      return this.audit.refuse(
        peer,
        'NotAllowed',
        `pull: uid ${peer.uid} is not among those for whom the service pulls`,
      );
    const order = orderOf(reference, name);
    const release = this.take(peer, name);
    return failing(this.audit, peer, `pull ${reference}`, async () => {
      const task = await this.taskOf(peer, order).catch(error => {
        release();
        throw error;
      });
      const report = await runTask(this.readiness, task, [], { timeoutMs: TIMEOUT_MS, signal, onEnd: release });
      if (report.kind === 'denied') return this.audit.refuse(peer, 'DeniedByPolicy', report.message);
      const digest = doneDigest(report);
      this.audit.note(peer, `pull ${reference}: ${digest}, named ${name}`);
      return digest;
    });
  }

  private take({ uid }: Peer, name: string): () => void {
    if (this.names.has(name)) throw new Refusal('Busy', { limit: 1 });
    const onEnd = this.slots.take(uid);
    this.names.add(name);
    return () => {
      this.names.delete(name);
      onEnd();
    };
  }

  /** Throws Refusal if the policy allows no image from there. */
  private async taskOf(peer: Peer, { reference, name }: Order): Promise<Pull> {
    const { store, sources } = this.options;
    try {
      await admission(printable(reference), parseReference(reference), store, sources.policyFile);
    } catch (error) {
      if (error instanceof PolicyDenial) return this.audit.refuse(peer, 'DeniedByPolicy', error.message);
      throw error;
    }
    const { uid, gid } = statSync(bufferOf(store));
    const named = peer.uid === 0 ? undefined : await digestOf(store, name);
    return { kind: 'pull', as: { uid, gid, groups: [] }, store, reference, name, named, sources };
  }
}

interface Order {
  readonly reference: ByteString;
  readonly name: ByteString;
}

/** The length of a reference: more than registries take. */
const REFERENCE_MAX = 1024;

/** What a client wants. Local references would be read with rights that are not the client's. Throws Refusal. */
function orderOf(reference: string, name: string): Order {
  const order = { reference: byteStringFromText(reference), name: byteStringFromText(name) };
  const parsed = attempt(() => parseReference(order.reference));
  if (reference.length > REFERENCE_MAX || parsed instanceof ErrnoError || parsed.transport !== 'docker')
    throw new Refusal('InvalidParameter', { parameter: 'reference' });
  const isDigest = algorithmOfHex(name) !== undefined; // which would be in the way of that image
  if (isDigest || attempt(() => checkName(order.name)) instanceof ErrnoError)
    throw new Refusal('InvalidParameter', { parameter: 'name' });
  return order;
}

/** The digest of the image with a name; undefined if there is none. Throws ErrnoError. */
async function digestOf(store: ByteString, name: ByteString): Promise<string | undefined> {
  try {
    return (await findImage(store, name)).digest;
  } catch (error) {
    if (error instanceof ErrnoError && error.errno === ENOENT) return undefined;
    throw error;
  }
}
