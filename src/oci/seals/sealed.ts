/** Whether an image is sealed where it is: in a layout, or in a registry. */
import { type KeyFile, readKeys } from '../../seal/keys.ts';
import { findVoucher, labelled, type Voucher } from '../../seal/verify.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EACCES, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { type Algorithm, algorithmOfHex } from '../../verity/algorithms.ts';
import type { OpenImage } from '../image.ts';
import { ARTIFACT_TYPE, type Seal } from './artifact.ts';
import { findSeals } from './found.ts';
import { type Inline, type InlineEntry, readInline } from './inline.ts';
import { digestsOf } from './make.ts';

/**
 * Finds the digest of an image's merged tree for which a known key vouches, as it does for its manifest and its configuration. The
 * merged tree itself is not looked at. Throws ErrnoError: EACCES if there is no seal by a key that counts, with a line for each
 * reason; as readKeys does.
 */
export async function verifySealed(image: OpenImage, directories?: readonly ByteString[]): Promise<Voucher> {
  const { shown } = image.source;
  const keys = readKeys(directories);
  const { seals, faults } = await findSeals(image);
  const inline = inlineOf(image);
  const reasons = [...faults, ...inline.faults];
  for (const seal of seals) {
    try {
      return verifySeal(image, seal, keys, directories);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      reasons.push(error.message);
    }
  }
  try {
    const voucher = verifyInline(image, inline, keys, directories);
    if (voucher) return voucher;
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    reasons.push(error.message);
  }
  const none = `${shown}: no seal: no artifact of type ${ARTIFACT_TYPE} has the manifest ${image.manifest} as its subject`;
  throw new ErrnoError(EACCES, reasons.length > 0 ? reasons.join('\n') : none);
}

function verifySeal(
  image: OpenImage,
  { entries, signatures }: Seal,
  keys: readonly KeyFile[],
  directories: readonly ByteString[] | undefined,
): Voucher {
  const { shown } = image.source;
  const own = digestsOf(image, algorithmOfHex(entries[0]?.digest ?? '') as Algorithm);
  let merged: Voucher | undefined;
  for (const [i, { role, digest, signature }] of entries.entries()) {
    const names = {
      image: `${shown}: its ${role}`,
      signature: `${shown}/${image.places?.blob(signature.digest)}`,
      directories,
    };
    if ((role === 'manifest' || role === 'config') && own[role] !== digest)
      throw new ErrnoError(EUCLEAN, `${names.image} has the digest ${labelled(own[role])}, but the seal ${digest}`);
    const voucher = findVoucher(names, signatures[i] as Uint8Array, [digest], keys);
    if (role === 'merged') merged = voucher;
  }
  return merged as Voucher; // readArtifact has found it
}

const inlineOf = ({ manifestBytes, source }: OpenImage): Inline =>
  manifestBytes ? readInline(manifestBytes, source.shown) : { entries: [], layers: [], faults: [] };

/** By the annotations of the manifest itself; undefined if they name no merged image. */
function verifyInline(
  image: OpenImage,
  { entries }: Inline,
  keys: readonly KeyFile[],
  directories: readonly ByteString[] | undefined,
): Voucher | undefined {
  const { shown } = image.source;
  const refuse = (why: string): never => {
    throw new ErrnoError(EACCES, `${shown}: its manifest ${why}`);
  };
  const merged = entries.filter(({ role }) => role === 'merged');
  if (merged.length === 0) return undefined;
  const signed = merged.find(({ signature }) => signature) ?? refuse('names its image, but has no signature of that');
  const { length } = signed.digest;
  const config = entries.find(({ role, digest }) => role === 'config' && digest.length === length);
  if (!config?.signature) return refuse('has a signature of its image, but none of its configuration');
  const { config: right } = digestsOf(image, algorithmOfHex(signed.digest) as Algorithm);
  if (config.digest !== right)
    refuse(`names the digest ${labelled(config.digest)} for the configuration, which has ${labelled(right)}`);
  const vouch = ({ role, digest, signature }: InlineEntry): Voucher => {
    const names = { image: `${shown}: its ${role}`, signature: 'the annotation of its manifest', directories };
    return findVoucher(names, signature as Uint8Array, [digest], keys);
  };
  vouch(config);
  return vouch(signed);
}
