/**
 * Stacks with valid, invalid and circular overlay xattrs: redirect loops, metacopies of metacopies, every kind of whiteout. An
 * input is text: the options of the stack, then its layers, top first. Each layer is a dump whose xattrs are used unchanged.
 *
 * ```
 * metacopy=on,redirects=kernel
 * layer
 * / 4096 40755 2 0 0 0 0.0 - - - trusted.overlay.opaque=x
 * data
 * / 4096 40755 2 0 0 0 0.0 - - -
 * ```
 */
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Inode, Layer } from '../../src/layers/layer.ts';
import { StackDraft } from '../../src/overlay/options/draft.ts';
import { STACK_DEFAULTS } from '../../src/overlay/options/rules.ts';
import { splitOptions } from '../../src/overlay/options/split.ts';
import { formatOrigin } from '../../src/overlay/origin.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { type ByteString, byteStringOf } from '../../src/sys/bytes.ts';
import { ErrnoError } from '../../src/sys/errno.ts';
import { isDirectory, isRegular } from '../../src/sys/stat.ts';
import { demand, type Random, type Target } from './target.ts';
import { linesOfText, makeDump, NAMES, rawImage, textOf, type Xattrs } from './trees.ts';
import { walkOverlay } from './walk.ts';

const OPTIONS = [
  ['metacopy=on', 'metacopy=off', 'userxattr'],
  ['redirect_dir=follow', 'redirect_dir=nofollow', 'redirect_dir=on', 'xino=off'],
  ['verity=off', 'verity=on', 'verity=require'],
  ['redirects=kernel', 'redirects=data-only', 'redirects=strict'],
  ['semantics=lowerdata', 'semantics=kernel'],
  ['follow_origin=verity', 'follow_origin=off'],
] as const;
/** The most objects in one walk. */
const OBJECTS_MAX = 100;
/** The most queries of one lookup to one layer: redirects have at most this many components, and each layer is met once. */
const QUESTIONS_MAX = 64;

const REDIRECTS = ['', '.', '..', '/', '//', '/a/', 'a/b', '/a//b', '///a', '/..', '/a/../b', '/./a', 'a\0/b', '//a\0'];
const DIGEST = '\xab'.repeat(32);
const METACOPIES = [
  '',
  '\0',
  '\0\x04\0\0',
  `\0\x24\0\x01${DIGEST}`,
  `\0\x24\0\x02${DIGEST}`,
  `\0\x44\0\x02${DIGEST}${DIGEST}`,
].concat([
  `\x01\x24\0\x01${DIGEST}`,
  `\0\xff\0\x01${DIGEST}`,
  `\0\x24\0\x01${DIGEST}x`,
  '\xff'.repeat(69),
  '\0'.repeat(300),
]);
const ORIGIN = byteStringOf(formatOrigin({ uuid: '\x01'.repeat(16), handle: { type: 1, bytes: new Uint8Array(8) } }));

/** Xattrs with valid values, almost valid values, and values that lead back to their origin. */
export const overlayXattrs: Xattrs = (random, mode) => {
  const xattrs: [ByteString, ByteString][] = [];
  const add = (name: ByteString, value: ByteString): void => {
    const prefix = random.oneIn(12)
      ? 'user.overlay.'
      : random.oneIn(20)
        ? 'trusted.overlay.overlay.'
        : 'trusted.overlay.';
    if (!xattrs.some(([known]) => known === prefix + name)) xattrs.push([prefix + name, value]);
  };
  if (isRegular(mode) && !random.oneIn(3)) add('metacopy', random.pick(METACOPIES));
  if (!random.oneIn(3)) add('redirect', makeRedirect(random));
  if (isDirectory(mode) && random.oneIn(3)) add('opaque', random.pick(['y', 'x', '', 'yy', 'n']));
  if (random.oneIn(5)) add('origin', makeOrigin(random));
  if (random.oneIn(8)) add('whiteout', random.pick(['', 'y']));
  return xattrs;
};

function makeRedirect(random: Random): ByteString {
  if (random.oneIn(6)) return random.pick(REDIRECTS);
  const parts = Array.from({ length: 1 + random.below(random.oneIn(20) ? 40 : 3) }, () => random.pick(NAMES));
  return random.oneIn(3) ? (parts[0] as ByteString) : `${random.pick(['/', '/', '//'])}${parts.join('/')}`;
}

function makeOrigin(random: Random): ByteString {
  const at = random.below(ORIGIN.length);
  if (random.oneIn(3)) return ORIGIN;
  const byte = String.fromCharCode(random.pick([0, 1, 20, 21, 0x7f, 0xff]));
  return random.oneIn(3) ? ORIGIN.slice(0, at) : ORIGIN.slice(0, at) + byte + ORIGIN.slice(at + 1);
}

function make(random: Random): Uint8Array {
  const options = OPTIONS.map(values => random.pick(values)).filter(() => !random.oneIn(3));
  const layers = Array.from({ length: 1 + random.below(5) }, () => ['layer', ...makeDump(random, overlayXattrs, 20)]);
  const data = Array.from({ length: random.below(3) }, () => ['data', ...makeDump(random, overlayXattrs, 12)]);
  return textOf([options.join(','), ...layers.flat(), ...data.flat()]);
}

/** A layer that counts its lookups. */
class CountingLayer extends ErofsLayer {
  questions = 0;

  override lookup(directory: Inode, name: ByteString): ReturnType<ErofsLayer['lookup']> {
    this.questions++;
    return super.lookup(directory, name);
  }
}

/** An overlay that demands that each lookup ends within QUESTIONS_MAX queries per layer. */
class BoundedOverlay extends Overlay {
  override lookup(...question: Parameters<Overlay['lookup']>): ReturnType<Overlay['lookup']> {
    const before = this.layers.map(layer => (layer as CountingLayer).questions);
    const found = super.lookup(...question);
    for (const [i, layer] of this.layers.entries()) {
      const asked = (layer as CountingLayer).questions - (before[i] as number);
      demand(asked <= QUESTIONS_MAX, `one lookup asks layer ${i} ${asked} times`);
    }
    return found;
  }
}

/** The stack of an input; undefined if its options exclude each other. */
export function openText(text: Uint8Array): Overlay | undefined {
  const [options = '', ...lines] = linesOfText(text);
  const draft = new StackDraft();
  const layers: Record<'layer' | 'data', Layer[]> = { layer: [], data: [] };
  let kind: 'layer' | 'data' = 'layer';
  let dump: ByteString[] = [];
  const flush = (): void => {
    if (dump.length > 0) layers[kind].push(new CountingLayer(`${kind} ${layers[kind].length}`, rawImage(dump)));
    dump = [];
  };
  for (const line of lines) {
    if (line !== 'layer' && line !== 'data') dump.push(line);
    else {
      flush();
      kind = line;
    }
  }
  flush();
  try {
    for (const { key, value } of splitOptions(options)) draft.set(key, value);
    draft.replaceLayers('A');
    return new BoundedOverlay(layers.layer, layers.data, draft.finish(STACK_DEFAULTS));
  } catch (error) {
    if (error instanceof ErrnoError) return undefined;
    throw error;
  }
}

function check(input: Uint8Array): void {
  const overlay = openText(input);
  if (overlay) walkOverlay(overlay, { objectsMax: OBJECTS_MAX, lot: input.length, isSound: true });
}

export const stacks: Target = { make, check };
