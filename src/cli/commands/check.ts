/** `lowerdata check`: finds the places where a stack differs from its appearance. */
import type { Command } from 'commander';
import { HAZARDS, type Hazard, type HazardCode, hazards } from '../../inspect/hazards.ts';
import { kernelDifferences } from '../../inspect/kernel-differences.ts';
import { KERNELS, type Kernel, kernelOf, REFERENCE, refusalOf } from '../../inspect/kernels.ts';
import type { Finding } from '../../mount/finding.ts';
import { objectsFinding } from '../../mount/objects.ts';
import { planHere, splitMountOptions } from '../../mount/plan.ts';
import { openOverlay } from '../../overlay/open.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { print } from '../../terminal/output.ts';
import { reporting } from '../../terminal/report.ts';
import { collect, newCommand, oneOf, parse } from '../command.ts';
import { findingLine } from '../finding-line.ts';

const CLEAN = 0;
const FOUND = 1;
const FAILED = 2;

interface CheckFlags {
  readonly options: ByteString[];
  readonly json?: true;
  readonly kernel?: ByteString;
}

export const define = (): Command =>
  newCommand('lowerdata check')
    .description(
      'Find redirects that another layer captures, data that is not there, and files that the kernel sees differently. ' +
        'No data is read; `lowerdata fsck` does that.',
    )
    .usage('[options] A:B::C|IMAGE')
    .argument('<stack>', 'the layers, as for mount')
    .option('-o, --options <list>', 'mount options that change what the stack shows', collect, [])
    .option('--json', 'print JSON Lines: one object for each finding')
    .addOption(oneOf('--kernel <version>', 'which Linux is asked: 6.18, or an older one', KERNELS))
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended === 0 ? 0 : FAILED;
  const flags = command.opts<CheckFlags>();
  return reporting(FAILED, () => check(command.args[0] as ByteString, flags));
}

const HELP = `
What is found: ${Object.keys(HAZARDS).join(', ')}.
Exit status: 0 nothing is found, 1 something is, 2 the check failed.`;

async function check(source: ByteString, { options, json, kernel: version = REFERENCE }: CheckFlags): Promise<number> {
  const kernel = kernelOf(version);
  const overlay = openOverlay((await planHere(source, options)).stack);
  let sameCause = 0;
  const stack = objectsFinding(overlay);
  let status = stack ? FOUND : CLEAN;
  if (stack) await print(findingLine(stack, json));
  for (const hazard of hazardsOf(overlay, kernel, options)) {
    const finding = findingOf(hazard);
    status = FOUND;
    if (!json && stack?.code === 'no-objects' && WITHOUT_OBJECTS.has(finding.code)) sameCause++;
    else await print(findingLine(finding, json));
  }
  overlay.close();
  if (sameCause > 0)
    await print(byteStringFromText(`${sameCause} files without data, not listed: --json lists them\n`));
  return status;
}

function* hazardsOf(overlay: Overlay, kernel: Kernel, options: readonly ByteString[]): Generator<Hazard> {
  const refusal = refusalOf(kernel, overlay, options.flatMap(splitMountOptions));
  if (refusal) yield { path: '/', code: 'refused', detail: refusal };
  else yield* kernelDifferences(overlay, kernel);
  yield* hazards(overlay, kernel);
}

/** The hazards of files whose objects are not in the stack. */
const WITHOUT_OBJECTS: ReadonlySet<string> = new Set<HazardCode>(['missing', 'broken', 'no-data-layer']);

function findingOf({ detail, ...hazard }: Hazard): Finding {
  const { what, help } = HAZARDS[hazard.code];
  return { ...hazard, message: `${what} (${detail})`, help };
}
