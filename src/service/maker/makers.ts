/** What the service makes for its clients, beside mounts. */
import type { ByteString } from '../../sys/bytes.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { Audit } from './audit.ts';
import { KeyHolder } from './key-holder.ts';
import { Maker } from './maker.ts';
import type { Principals } from './principals.ts';
import { Puller, type PullingOptions } from './puller.ts';
import { Signer } from './signer.ts';

export interface MakersOptions {
  /** The key that signs; undefined: nothing is signed. */
  readonly signing: SigningOptions | undefined;
  readonly pulling: PullingOptions;
}

export interface SigningOptions {
  readonly key: ByteString;
  readonly certificate: ByteString;
  /** For whom the service signs. */
  readonly users: Principals;
}

export interface Makers {
  readonly maker: Maker;
  readonly puller: Puller;
  readonly signer: Signer;
}

/** Starts what has to be there before the first client. Throws ErrnoError if the key cannot be used. */
export async function startMakers(
  readiness: Readiness,
  { signing, pulling }: MakersOptions,
  log: (line: string) => void,
): Promise<Makers> {
  const audit = new Audit(log);
  const others = { maker: new Maker(readiness, audit), puller: new Puller(readiness, pulling, audit) };
  if (signing === undefined) return { ...others, signer: new Signer(readiness, undefined, audit) };
  const holder = new KeyHolder(readiness, signing.key, signing.certificate);
  const subject = await holder.start();
  return { ...others, signer: new Signer(readiness, { holder, subject, users: signing.users }, audit) };
}
