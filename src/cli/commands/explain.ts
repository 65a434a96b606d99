/** `lowerdata explain`: reports which rule decided in which layer, where data comes from, and how it is checked. */
import type { Command } from 'commander';
import { Explainer } from '../../inspect/explain.ts';
import { explanationLines } from '../../inspect/explain-text.ts';
import { KERNELS, type Kernel, kernelOf, REFERENCE } from '../../inspect/kernels.ts';
import { reproduce } from '../../inspect/reproduce/reproduce.ts';
import { splitMountOptions } from '../../mount/plan.ts';
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { jsonLine } from '../../terminal/json-lines.ts';
import { print, printLines, terminalColumns } from '../../terminal/output.ts';
import { complain, reporting, WRONG_CALL } from '../../terminal/report.ts';
import { oneOf, parse } from '../command.ts';
import { forPaths, newStackCommand } from '../stack.ts';

interface ExplainFlags {
  readonly options: ByteString[];
  readonly json?: true;
  readonly measure?: true;
  readonly reproduce?: true;
  readonly kernel?: ByteString;
}

export const define = (): Command =>
  newStackCommand('explain')
    .description(
      'Show how paths of a stack are looked up, without a mount: what each layer was searched for and held, and which rule of ' +
        'overlayfs decided.',
    )
    .option('--json', 'print JSON Lines: one object for each path')
    .option('--measure', 'read and measure the data, to compare its digest')
    .option(
      '--reproduce',
      'a shell script that makes the smallest stack with the answer for one path, and asks the kernel',
    )
    .addOption(oneOf('--kernel <version>', 'which Linux stands beside: 6.18, or what an older one does', KERNELS))
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<ExplainFlags>();
  if (flags.reproduce && (flags.json || flags.measure || flags.kernel || command.args.length !== 2)) {
    complain('--reproduce takes one path, and none of --json, --measure and --kernel');
    return WRONG_CALL;
  }
  return reporting(WRONG_CALL, () => explainPaths(command.args, flags, kernelOf(flags.kernel ?? REFERENCE)));
}

function explainPaths(args: readonly ByteString[], flags: ExplainFlags, kernel: Kernel): Promise<number> {
  const width = Math.max(40, terminalColumns());
  let explainer: Explainer | undefined;
  return forPaths(args, flags, async (overlay, path) => {
    if (flags.reproduce) return void print(byteStringFromText(reproduce(overlay, path).script));
    explainer ??= new Explainer(overlay, kernel, flags.options.flatMap(splitMountOptions));
    const explanation = explainer.explain(path, flags.measure === true);
    if (flags.json) print(jsonLine(explanation));
    else printLines(explanationLines(explanation, width).map(byteStringFromText));
  });
}

const HELP = `
Rules have the names of \`$(npm root -g)/lowerdata/docs/semantics.md\`. The last lines say what Linux 6.18 does with the same
options, or the kernel of --kernel.
A script of --reproduce needs root, and setfattr or python3. It holds no name and no data of the stack.`;
