/** What the service makes for its clients, beside mounts. */
import type { ByteString } from '../../sys/bytes.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { Audit } from './audit.ts';
import { KeyHolder } from './key-holder.ts';
import { Maker } from './maker.ts';
import type { Principals } from './principals.ts';
import { Signer } from './signer.ts';

export interface MakersOptions {
  /** The key that signs; undefined: nothing is signed. */
  readonly signing: SigningOptions | undefined;
}

export interface SigningOptions {
  readonly key: ByteString;
  readonly certificate: ByteString;
  /** For whom the service signs. */
  readonly users: Principals;
}

export interface Makers {
  readonly maker: Maker;
  readonly signer: Signer;
}

/** Starts what has to be there before the first client. Throws ErrnoError if the key cannot be used. */
export async function startMakers(
  readiness: Readiness,
  { signing }: MakersOptions,
  log: (line: string) => void,
): Promise<Makers> {
  const audit = new Audit(log);
  const maker = new Maker(readiness, audit);
  if (signing === undefined) return { maker, signer: new Signer(readiness, undefined, audit) };
  const holder = new KeyHolder(readiness, signing.key, signing.certificate);
  const subject = await holder.start();
  return { maker, signer: new Signer(readiness, { holder, subject, users: signing.users }, audit) };
}
