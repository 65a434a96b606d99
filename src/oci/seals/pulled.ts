/** Takes the seals of an image into the repository, with the image. */
import { algorithmOfHex } from '../../verity/algorithms.ts';
import type { OpenImage } from '../image.ts';
import { recordSeal } from '../streams/record-seal.ts';
import type { Streams } from '../streams/stored.ts';
import type { Role, Seal } from './artifact.ts';
import { findSeals } from './found.ts';
import { compareNamed, type MadeImage } from './named.ts';

/** A seal that the repository has. Who has signed is not known yet. */
export interface PulledSeal {
  /** The digest of the artifact; undefined for the annotations of the image's own manifest. */
  readonly artifact: string | undefined;
  /** The fs-verity digest that it has for the image that was made, in hex; undefined if it has none for such an image. */
  readonly digest: string | undefined;
}

export interface PulledSeals {
  readonly seals: readonly PulledSeal[];
  /** What is wrong with the seals, or was with finding them. */
  readonly faults: readonly string[];
}

/**
 * Records the seals of an image that is recorded. Throws ErrnoError with the path in the store; what fails elsewhere is a fault.
 * @param made the composefs image
 */
export async function pullSeals(streams: Streams, image: OpenImage, made: MadeImage): Promise<PulledSeals> {
  const { digest, isBootable } = made;
  const role = isBootable ? 'merged.bootable' : 'merged';
  const found = await findSeals(image);
  const named = compareNamed(image, made);
  const faults = [...named.differences, ...named.faults];
  faults.push(...found.faults.map(fault => `a seal of the image is missing: ${fault}`));
  for (const seal of found.seals) recordSeal(streams, image.manifest as string, seal);
  const seals = found.seals.map(seal => ({ artifact: seal.digest, digest: digestFor(seal, role) }));
  const isSealed = [named.signed, ...seals.map(seal => seal.digest)].includes(digest);
  for (const { artifact, digest: sealed } of seals) {
    const why = sealed === digest ? undefined : differenceOf(sealed, digest, role);
    if (why !== undefined && (!isSealed || sealed?.length === digest.length)) faults.push(`seal ${artifact}: ${why}`);
  }
  const inline = named.signed === undefined ? [] : [{ artifact: undefined, digest: named.signed }];
  return { seals: [...inline, ...seals], faults };
}

const digestFor = ({ entries }: Seal, role: Role): string | undefined =>
  entries.find(entry => entry.role === role)?.digest;

function differenceOf(sealed: string | undefined, digest: string, role: Role): string {
  if (sealed === undefined) return `it has no digest of ${role}`;
  const [theirs, ours] = [sealed, digest].map(algorithmOfHex);
  if (theirs !== ours) return `its digests are by ${theirs}, but those of the repository are by ${ours}`;
  return `its image has the digest ${sealed}, but this one has ${digest}`;
}
