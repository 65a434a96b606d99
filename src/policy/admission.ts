/** Whether a policy lets an image be pulled. */
import type { Reference } from '../oci/reference.ts';
import { verifyStored } from '../oci/seals/stored.ts';
import type { ByteString } from '../sys/bytes.ts';
import { enforce, judge, ruleFor, type Verify } from './decide.ts';
import { readPolicy } from './file.ts';
import { placeOfReference } from './scopes.ts';

/**
 * What decides about the image when it is made; undefined without a policy.
 * @param shown the reference, for messages
 * @param file the policy; undefined: that of the system
 * Throws PolicyDenial if no image from there is allowed, before anything is fetched; and as readPolicy does.
 */
export async function admission(
  shown: string,
  reference: Reference,
  store: ByteString,
  file: ByteString | undefined,
): Promise<((digest: string) => Promise<void>) | undefined> {
  const policy = await readPolicy(file);
  if (policy === undefined) return undefined;
  const place = placeOfReference(reference);
  const rule = ruleFor(policy, place);
  enforce(shown, policy, place, rule, await judge(rule, undefined));
  return async (digest: string): Promise<void> => {
    const verify: Verify = directories => verifyStored({ store, name: digest, digest }, directories);
    enforce(shown, policy, place, rule, await judge(rule, verify));
  };
}
