/** `lowerdata policy check`: whether the policy allows an image, and by which rule. */
import type { Command } from 'commander';
import { signatureFile, unsealedPlan } from '../../../mount/plan.ts';
import { parseReference, TRANSPORTS } from '../../../oci/reference.ts';
import { judge, ruleFor } from '../../../policy/decide.ts';
import { POLICY_FILES, type Policy, readPolicy } from '../../../policy/file.ts';
import { placeOfReference } from '../../../policy/scopes.ts';
import { type Decision, decide } from '../../../policy/stack.ts';
import { type ByteString, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { documentLines } from '../../../terminal/json-lines.ts';
import { printLines } from '../../../terminal/output.ts';
import { MOUNT_FAILED, reporting, WRONG_CALL } from '../../../terminal/report.ts';
import { argumentOneOf, collect, newCommand, parse } from '../../command.ts';

interface PolicyFlags {
  readonly options: ByteString[];
  readonly policy?: ByteString;
  readonly json?: true;
}

export const define = (): Command =>
  newCommand('lowerdata policy')
    .description('Show rule by rule whether the policy allows an image.')
    .usage('check [options] STACK|REF')
    .addArgument(argumentOneOf('<check>', 'what to do: check', ['check']))
    .argument('<image>', 'a stack as for a mount, with -o store= the name of an image, or an image as for a pull')
    .option('-o, --options <list>', 'mount options, separated by commas', collect, [])
    .option('--policy <path>', 'the policy, in place of that of the system')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP);

const HELP = `
A policy is /etc/lowerdata/policy.json, or else /usr/lib/lowerdata/policy.json, in the grammar of containers-policy.json(5). Without
one, every image is allowed. Of an image to pull (docker://..., oci:...), only the rule is shown: nothing is fetched.
Exit status: 0 if all images are allowed, 32 if one is not, or 1 for anything else.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [action = '', image = ''] = command.args;
  return reporting(WRONG_CALL, () => {
    if (action !== 'check') throw new ErrnoError(EINVAL, `policy ${printable(action)}: unknown; policy check is known`);
    return check(image, command.opts<PolicyFlags>());
  });
}

async function check(image: ByteString, { options, policy: named, json }: PolicyFlags): Promise<number> {
  const isReference = Object.keys(TRANSPORTS).some(transport => image.startsWith(`${transport}:`));
  const plan = isReference ? undefined : await unsealedPlan(image, options);
  const policy = await readPolicy(named ?? plan?.policy);
  let decisions: Decision[] = [];
  if (policy !== undefined)
    decisions = plan
      ? await decide(policy, plan.stack, signatureFile(plan.seal))
      : [await decideReference(policy, image)];
  const isAllowed = decisions.every(({ verdicts }) => verdicts.every(({ holds }) => holds !== false));
  printLines(json ? jsonOf(policy, decisions, isAllowed) : [...linesOf(policy, decisions)]);
  return isAllowed ? 0 : MOUNT_FAILED;
}

async function decideReference(policy: Policy, image: ByteString): Promise<Decision> {
  const place = placeOfReference(parseReference(image));
  const rule = ruleFor(policy, place);
  return { image: printable(image), place, rule, verdicts: await judge(rule, undefined) };
}

function* linesOf(policy: Policy | undefined, decisions: readonly Decision[]): Generator<ByteString> {
  if (policy === undefined)
    return yield `no policy: neither ${POLICY_FILES.join(' nor ')} is there; every image is allowed`;
  const text = (line: string): ByteString => byteStringFromText(line);
  yield text(`policy ${printable(policy.file)}`);
  if (decisions.length === 0) yield 'no layer is an image: the policy says nothing about directories';
  for (const { image, place, rule, verdicts } of decisions) {
    yield text(image);
    for (const scope of rule.absent) yield text(`  ${place.transport} "${printable(scope)}": no rule`);
    yield text(
      `  ${rule.scope === undefined ? 'default' : `${place.transport} "${printable(rule.scope)}"`}: this rule counts`,
    );
    for (const { type, holds, reason } of verdicts) {
      const [first = '', ...others] = reason.split('\n');
      yield text(`    ${type}: ${WORDS.get(holds)}: ${first}`);
      for (const line of others) yield text(`      ${line}`);
    }
  }
}

const WORDS: ReadonlyMap<boolean | undefined, string> = new Map([
  [true, 'holds'],
  [false, 'does not hold'],
  [undefined, 'not known yet'],
]);

const jsonOf = (policy: Policy | undefined, decisions: readonly Decision[], allowed: boolean): ByteString[] =>
  documentLines({
    policy: policy === undefined ? null : printable(policy.file),
    allowed,
    images: decisions.map(({ image, place, rule, verdicts }) => ({
      image,
      transport: place.transport,
      scope: rule.scope === undefined ? null : printable(rule.scope),
      absent: rule.absent.map(printable),
      requirements: verdicts.map(({ type, holds, reason }) => ({
        type,
        holds: holds ?? null,
        reason: reason.split('\n'),
      })),
    })),
  });
