/** `lowerdata explain`: reports which rule decided in which layer, where data comes from, and how it is checked. */
import type { Command } from 'commander';
import { Explainer, type Explanation, type LookupReport, type TraceEvent } from '../../inspect/explain.ts';
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { print, printLines, terminalColumns, wrapped as wrapWords } from '../../terminal/output.ts';
import { parse } from '../command.ts';
import { forPaths, newStackCommand } from '../stack.ts';

interface ExplainFlags {
  readonly options: ByteString[];
  readonly json?: true;
  readonly measure?: true;
}

export const define = (): Command =>
  newStackCommand('explain')
    .description(
      'Show how paths of a stack are looked up, without a mount: what each layer was searched for and held, and which rule of ' +
        'overlayfs decided.',
    )
    .option('--json', 'one JSON object a line for each path')
    .option('--measure', 'read and measure the data, to compare its digest')
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<ExplainFlags>();
  const width = Math.max(40, terminalColumns());
  let explainer: Explainer | undefined;
  return forPaths(command.args, flags, async (overlay, path) => {
    explainer ??= new Explainer(overlay);
    const explanation = explainer.explain(path, flags.measure === true);
    if (flags.json) print(byteStringFromText(`${JSON.stringify(explanation)}\n`));
    else printLines(asText(explanation, width).map(byteStringFromText));
  });
}

const HELP = `
Rules have the names of docs/semantics.md. The last lines say what Linux 6.18 does with the same options.`;

/** The lines of an explanation, at most `width` columns each; only a longer word exceeds that. */
function asText({ path, lookups, data, kernel }: Explanation, width: number): string[] {
  const lines = [path, ...lookups.flatMap(lookup => lookupLines(lookup, width))];
  if (data) {
    lines.push('  its data', ...data.events.flatMap(event => eventLines(event, width)));
    lines.push(...wrapped('    → ', data.outcome, width), ...wrapped('    digest  ', data.verity, width));
  }
  if (kernel.same) lines.push('  Linux 6.18: the same');
  else {
    lines.push(...wrapped('  Linux 6.18: ', kernel.data ?? kernel.outcome, width));
    if (kernel.rule) lines.push(...wrapped('    ', kernel.rule, width));
  }
  return lines;
}

function lookupLines({ name, events, outcome }: LookupReport, width: number): string[] {
  return [
    ...wrapped('  ', name, width),
    ...events.flatMap(event => eventLines(event, width)),
    ...wrapped('    → ', outcome, width),
  ];
}

function eventLines(event: TraceEvent, width: number): string[] {
  if ('layer' in event) return wrapped('    ', `${event.layer} is searched for ${event.asked}`, width);
  if ('component' in event) return wrapped('      ', `${event.component}: ${event.found}`, width);
  return wrapped(`        ${event.rule.padEnd(6)}`, event.text, width);
}

/** Wraps text into lines and shortens long hexadecimal numbers. */
function wrapped(start: string, text: string, width: number): string[] {
  const cut = text.replace(/[0-9a-f]{20,}/g, digits => `${digits.slice(0, 12)}…`);
  return wrapWords(start, cut, width);
}
