/** Takes away from a drawn stack whatever its answer does not need, until nothing more can go. */
import { Overlay } from '../../overlay/overlay.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { attempt, ErrnoError } from '../../sys/errno.ts';
import { type Answer, answerOf, asKernel, isSame } from './answer.ts';
import { isFollowed, type LayerSketch, newSketch, type Sketch, SketchLayer } from './sketch.ts';

/** A stack to be reproduced: layers, the rules they are looked up by, and the names that lead to the object. */
export interface Draft {
  readonly layers: readonly LayerSketch[];
  readonly names: readonly ByteString[];
  /** The overlay whose rules and options count. */
  readonly rules: Pick<Overlay, 'options' | 'judge'>;
}

/** The answers by the rules of Linux and by those of the stack. */
export interface Answers {
  readonly kernel: Answer;
  readonly ours: Answer;
}

/** An overlay of the sketches. */
export function overlayOf({ layers, rules }: Draft): Overlay {
  const made = (dataOnly: boolean): SketchLayer[] =>
    layers.filter(layer => layer.dataOnly === dataOnly).map(layer => new SketchLayer(layer));
  return new Overlay(made(false), made(true), rules.options, rules.judge);
}

/** Throws ErrnoError as a lookup does. */
export function answersOf(overlay: Overlay, names: readonly ByteString[]): Answers {
  return { kernel: answerOf(asKernel(overlay), names), ours: answerOf(overlay, names) };
}

/** Whether a draft gives the answers that are wanted. */
export function gives(draft: Draft, wanted: Answers): boolean {
  if (!draft.layers.some(layer => !layer.dataOnly)) return false;
  const found = attempt(() => answersOf(overlayOf(draft), draft.names));
  return !(found instanceof ErrnoError) && isSame(found.kernel, wanted.kernel) && isSame(found.ours, wanted.ours);
}

/** The smallest draft with the answers of `draft` that dropping one thing after the other leads to. */
export function shrink(draft: Draft, wanted: Answers): Draft {
  let best = draft;
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const smaller of [shorterPaths, fewerLayers, smallerTrees]) {
      const next = smaller(best, wanted);
      isSmaller ||= next !== best;
      best = next;
    }
  }
  return best;
}

/** Without the first directory of the path, whose entries move to the roots. */
function shorterPaths(draft: Draft, wanted: Answers): Draft {
  const [first = '', ...names] = draft.names;
  if (names.length === 0) return draft;
  const layers = draft.layers.map(layer => ({ ...layer, root: without(layer.root, first) }));
  const shorter = { ...draft, layers, names };
  return gives(shorter, wanted) ? shorter : draft;
}

function without(root: Sketch, name: ByteString): Sketch {
  const lifted = root.entries.get(name)?.entries ?? [];
  const entries = new Map([...root.entries, ...lifted]);
  if (!new Map(lifted).has(name)) entries.delete(name);
  return { ...root, entries };
}

/** Layers without entries go first, all at once: a stack may have hundreds. */
function fewerLayers(draft: Draft, wanted: Answers): Draft {
  const filled = { ...draft, layers: draft.layers.filter(({ root }) => root.entries.size > 0) };
  let best = filled.layers.length < draft.layers.length && gives(filled, wanted) ? filled : draft;
  for (const layer of best.layers) {
    const fewer = { ...best, layers: best.layers.filter(one => one !== layer) };
    if (gives(fewer, wanted)) best = fewer;
  }
  return best;
}

/** Drops entries and xattrs, and shortens values, in place. @returns a new draft if anything was dropped */
function smallerTrees(draft: Draft, wanted: Answers): Draft {
  let isSmaller = false;
  const keep = (undo: () => void): void => {
    if (gives(draft, wanted)) isSmaller = true;
    else undo();
  };
  const visit = ({ entries, xattrs }: Sketch): void => {
    for (const map of [entries, xattrs] as Map<ByteString, unknown>[])
      for (const [name, value] of [...map]) {
        map.delete(name);
        keep(() => map.set(name, value));
      }
    for (const [name, value] of xattrs) {
      if (value.length === 0 || isFollowed(value)) continue;
      xattrs.set(name, new Uint8Array(0));
      keep(() => xattrs.set(name, value));
    }
    for (const entry of entries.values()) visit(entry);
  };
  for (const { root } of draft.layers) visit(root);
  return isSmaller ? { ...draft } : draft;
}

/** With an empty layer where the kernel would refuse one layer alone; undefined if every such layer changes the answer. */
export function asMountable(draft: Draft, wanted: Answers): Draft | undefined {
  if (draft.layers.length > 1) return draft;
  const empty = (dataOnly: boolean): LayerSketch => ({ path: 'nothing', dataOnly, root: newSketch() });
  const stacks = [
    [empty(false), ...draft.layers],
    [...draft.layers, empty(true)],
  ];
  return stacks.map(layers => ({ ...draft, layers })).find(padded => gives(padded, wanted));
}
