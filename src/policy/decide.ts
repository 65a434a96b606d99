/** Whether a policy allows an image, rule by rule. */
import { labelled, labelOf, type Voucher } from '../seal/verify.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EACCES, ErrnoError } from '../sys/errno.ts';
import type { Policy } from './file.ts';
import type { Requirement } from './grammar.ts';
import type { Place } from './scopes.ts';

/** The rule of a policy for an image. */
export interface Rule {
  /** The scope that counts; undefined: the default of the policy. */
  readonly scope: ByteString | undefined;
  /** The scopes that would have counted before, and for which the policy has nothing. */
  readonly absent: readonly ByteString[];
  readonly requirements: readonly Requirement[];
}

/** Whether a requirement holds. */
export interface Verdict {
  readonly type: Requirement['type'];
  /** Undefined: that is known only when there is an image. */
  readonly holds: boolean | undefined;
  /** Lines. */
  readonly reason: string;
  /** The digest that the image must have, if the requirement vouches for one. */
  readonly digest?: string;
}

/** Finds the key that has signed the digest of the image; throws ErrnoError with the reason. @param digest the one that it must have */
export type Verify = (directories: readonly ByteString[] | undefined, digest?: string) => Voucher | Promise<Voucher>;

/** A policy does not allow an image. */
export class PolicyDenial extends ErrnoError {}

/** The rule for an image: of all that fit, the most specific one alone. */
export function ruleFor({ rules }: Policy, { transport, scopes }: Place): Rule {
  const known = rules.transports.get(transport);
  const absent: ByteString[] = [];
  for (const scope of [...scopes, '']) {
    const requirements = known?.get(scope);
    if (requirements !== undefined) return { scope, absent, requirements };
    absent.push(scope);
  }
  return { scope: undefined, absent, requirements: rules.default };
}

/** @param verify undefined as long as there is no image. Throws what `verify` throws and is no ErrnoError. */
export async function judge({ requirements }: Rule, verify: Verify | undefined): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const requirement of requirements) {
    const digest = verdicts.find(verdict => verdict.digest !== undefined)?.digest;
    verdicts.push({ type: requirement.type, ...(await judgeOne(requirement, verify, digest)) });
  }
  return verdicts;
}

async function judgeOne(
  requirement: Requirement,
  verify: Verify | undefined,
  digest: string | undefined,
): Promise<Omit<Verdict, 'type'>> {
  const { type } = requirement;
  if (type === 'insecureAcceptAnything') return { holds: true, reason: 'any image is allowed' };
  if (type === 'reject') return { holds: false, reason: 'no image is allowed' };
  if (type !== 'composefsSigned')
    return { holds: false, reason: 'lowerdata does not check signatures of this kind, so that none counts' };
  if (verify === undefined)
    return { holds: undefined, reason: 'is judged by the seals of the image when it is pulled' };
  try {
    const voucher = await verify(requirement.keyDirectories, digest);
    return {
      holds: true,
      reason: `${labelOf(voucher.key)} has signed ${labelled(voucher.digest)}`,
      digest: voucher.digest,
    };
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return { holds: false, reason: error.message };
  }
}

/** Throws PolicyDenial, with each requirement that does not hold, unless all do. @returns the digest that one vouches for */
export function enforce(
  image: string,
  policy: Policy,
  place: Place,
  rule: Rule,
  verdicts: readonly Verdict[],
): string | undefined {
  const failed = verdicts.filter(({ holds }) => holds === false);
  if (failed.length === 0) return verdicts.find(({ digest }) => digest !== undefined)?.digest;
  const head = `${image}: policy ${printable(policy.file)} does not allow it, by ${ruleName(place, rule)}`;
  throw new PolicyDenial(EACCES, [head, ...failed.map(({ type, reason }) => `${type}: ${reason}`)].join('\n'));
}

/** A rule in the words of messages. */
export const ruleName = ({ transport }: Place, { scope }: Rule): string =>
  scope === undefined ? 'its default' : `its scope "${printable(scope)}" of ${transport}`;
