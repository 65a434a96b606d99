/** An explanation as lines of text, for people. */
import { wrapped as wrapText } from '../terminal/output.ts';
import type { Explanation, LookupReport, TraceEvent } from './explain.ts';

/** The lines of an explanation, at most `width` columns each; only a longer word exceeds that. */
export function explanationLines({ path, lookups, data, kernel }: Explanation, width: number): string[] {
  const lines = [path, ...lookups.flatMap(lookup => lookupLines(lookup, width))];
  if (data) {
    lines.push('  its data', ...data.events.flatMap(event => eventLines(event, width)));
    lines.push(...wrapped('    → ', data.outcome, width), ...wrapped('    digest  ', data.verity, width));
  }
  if (kernel.same) lines.push(`  Linux ${kernel.version}: the same`);
  else {
    lines.push(...wrapped(`  Linux ${kernel.version}: `, kernel.data ?? kernel.outcome, width));
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
  return wrapText(start, cut, width);
}
