/** The answer that a stack gives for one path, in a form that two stacks can be compared by. */
import type { Node } from '../../overlay/node.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { step } from '../../overlay/step.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { attempt, ErrnoError, errnoName } from '../../sys/errno.ts';
import { isDirectory, isRegular } from '../../sys/stat.ts';
import { Recorder, type TraceEvent } from '../explain.ts';

/** What the last lookup and the search for data said. */
export interface Answer {
  /** The rules in their order; one that fired more than once in a row counts once. */
  readonly rules: string;
  /** The object with its layers, or an errno. */
  readonly outcome: string;
  /** The layer that has the data or `origin`, with `, to be checked` if there is a digest; or an errno; '' for what has no data. */
  readonly data: string;
  readonly node?: Node;
}

/** The overlay by the rules of Linux 6.18. */
export const asKernel = (overlay: Overlay): Overlay =>
  overlay.withRules({ semantics: 'kernel', redirects: 'kernel' }, step);

/** Looks names up, from the root of the overlay; none is followed if it is a symlink. Throws ErrnoError as a lookup does. */
export function answerOf(overlay: Overlay, names: readonly ByteString[]): Answer {
  const recorder = new Recorder();
  overlay.trace = recorder;
  try {
    let at = overlay.root;
    for (const name of names) {
      if (!isDirectory(at.top.mode)) return { rules: '', outcome: 'ENOTDIR', data: '' };
      const found = overlay.lookup(at, name);
      const { events = [], outcome = '' } = recorder.lookups.at(-1) ?? {};
      if (typeof found === 'number') return { rules: rulesOf(events), outcome: pathless(outcome), data: '' };
      at = found;
    }
    const root = `the root of ${overlay.layers.map(({ path }) => path).join(', ')}`;
    const { events = [], outcome = root } = recorder.lookups.at(-1) ?? {};
    const search = recorder.begin();
    const data = isRegular(at.top.mode) ? dataOf(overlay, at, search) : '';
    return { rules: rulesOf([...events, ...search]), outcome: pathless(outcome), data, node: at };
  } finally {
    overlay.trace = undefined;
  }
}

const pathless = (outcome: string): string => outcome.replace(/, data at .*/s, ', data at a path');

function rulesOf(events: readonly TraceEvent[]): string {
  const names = events.flatMap(event => ('rule' in event ? [event.rule] : []));
  return names.filter((name, i) => name !== names[i - 1]).join(' ');
}

function dataOf(overlay: Overlay, node: Node, events: readonly TraceEvent[]): string {
  const data = attempt(() => overlay.find(node));
  if (data instanceof ErrnoError) return data.name;
  if (typeof data === 'number') return errnoName(data);
  const check = attempt(() => overlay.check(node, data));
  data.close();
  if (check instanceof ErrnoError) return check.name;
  return check ? `${layerOf(node, events)}, to be checked` : layerOf(node, events);
}

function layerOf(node: Node, events: readonly TraceEvent[]): string {
  if (events.some(event => 'rule' in event && event.rule === 'P-O5')) return 'origin';
  if (typeof node.data === 'object') return node.data.layer.path;
  if (node.data === undefined) return node.top.layer.path;
  return events.reduce((layer, event) => ('layer' in event ? event.layer : layer), '');
}

/** Whether two answers are the same, rule by rule. */
export const isSame = (a: Answer, b: Answer): boolean =>
  a.rules === b.rules && a.outcome === b.outcome && a.data === b.data;
