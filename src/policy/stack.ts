/** The images of a stack, as policies see them. */

import type { StackOptions } from '../overlay/options/rules.ts';
import { type SealChoice, verifyImage } from '../seal/image.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EACCES, ErrnoError } from '../sys/errno.ts';
import { leadsToDirectory } from '../sys/real-path.ts';
import { enforce, judge, type Rule, ruleFor, type Verdict, type Verify } from './decide.ts';
import type { Policy } from './file.ts';
import { type Place, placeInStore, placeOfFile } from './scopes.ts';

/** A decision about one image of a stack. */
export interface Decision {
  readonly image: string;
  readonly place: Place;
  readonly rule: Rule;
  readonly verdicts: readonly Verdict[];
}

/** Judges every image of a stack. @param signature a file; undefined: the seals of the repository, if there is one */
export async function decide(
  policy: Policy,
  stack: StackOptions,
  signature: ByteString | undefined,
): Promise<Decision[]> {
  const decisions: Decision[] = [];
  for (const [position, { path }] of stack.layers.entries()) {
    if (leadsToDirectory(path)) continue;
    const { stored } = stack;
    const isStored = position === 0 && stored !== undefined;
    const place = isStored ? placeInStore(stored.store, stored.name) : placeOfFile(path);
    const rule = ruleFor(policy, place);
    const verify = position === 0 ? await verifierOf(stack, path, signature) : refuseLower;
    const image = isStored ? printable(stored.name) : `image ${printable(path)}`;
    decisions.push({ image, place, rule, verdicts: await judge(rule, verify) });
  }
  return decisions;
}

/** Throws PolicyDenial for the first image that is not allowed. @returns the digest that the top image must have, if it is signed */
export function enforceAll(policy: Policy, decisions: readonly Decision[]): string | undefined {
  const digests = decisions.map(({ image, place, rule, verdicts }) => enforce(image, policy, place, rule, verdicts));
  return digests.find(digest => digest !== undefined);
}

async function verifierOf(
  { stored, imageDigest }: StackOptions,
  path: ByteString,
  signature: ByteString | undefined,
): Promise<Verify> {
  if (signature !== undefined) {
    const choice = (keys: SealChoice['keys']): SealChoice => ({ signature, keys });
    return (keys, digest = imageDigest) => verifyImage(path, choice(keys), digest);
  }
  if (stored === undefined || imageDigest === undefined) return refuseUnnamed;
  const { verifyStored } = await import('../oci/seals/stored.ts');
  return keys => verifyStored({ ...stored, digest: imageDigest }, keys);
}

const refuseUnnamed: Verify = () => {
  throw new ErrnoError(EACCES, 'no signature is given: option signature=FILE names it');
};

const refuseLower: Verify = () => {
  throw new ErrnoError(
    EACCES,
    'signatures are those of the top image alone, so that none can vouch for this one below',
  );
};
