/** The stacks to serve. Each is made once, and its contents are always the same. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { escapeXattr } from '../../src/composefs/escape.ts';
import { DirLayer } from '../../src/layers/dir.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Layer } from '../../src/layers/layer.ts';
import { settleRules } from '../../src/overlay/options/rules.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { type ByteString, bufferOf, byteStringOf } from '../../src/sys/bytes.ts';
import { measureBytes } from '../../src/verity/digest.ts';
import { dir, FakeLayer, file, link, whiteout } from '../../test/fixtures/fake-layer.ts';
import { rawImage } from './trees.ts';

export interface Served {
  readonly overlay: Overlay;
  /** Names in the stack, and one that it does not have. */
  readonly names: readonly ByteString[];
}

const DATA = 'data '.repeat(3000);

/** A line for a file with its data in the data-only layer, by the given digest, right or wrong. */
function metacopy(path: ByteString, size: number, digest: ByteString): ByteString {
  const xattrs = `trusted.overlay.metacopy=${escapeXattr(`\0\x24\0\x01${digest}`)} trusted.overlay.redirect=/object`;
  return `${path} ${size} 100644 1 0 0 0 0.0 - - - ${xattrs}`;
}

function image(): ErofsLayer {
  const digest = byteStringOf(measureBytes(bufferOf(DATA)));
  const many = Array.from({ length: 90 }, (_, i) => `/many/${'n'.repeat(i)}${i} 0 100644 1 0 0 0 0.0 - - -`);
  return new ErofsLayer(
    'image',
    rawImage([
      '/ 4096 40755 2 0 0 0 0.0 - - - user.shared=1',
      '/good 0 100644 2 0 0 0 0.0 - - -',
      '/again 0 @100644 2 0 0 0 0.0 /good - -',
      metacopy('/object', DATA.length, digest),
      metacopy('/short', 7, digest),
      metacopy('/wrong', DATA.length, '\xab'.repeat(32)),
      '/content 6 100644 1 0 0 0 0.0 - \\x00=\\xff=ab - user.a=b',
      '/holes 9007199254740991 100644 1 0 0 0 0.0 - - -',
      '/link 6 120777 1 0 0 0 0.0 ../../ - -',
      '/pipe 0 10644 1 0 0 0 0.0 - - -',
      '/null 0 20666 1 0 0 259 0.0 - - -',
      '/bad 0 40755 2 0 0 0 0.0 - - - trusted.overlay.redirect=//a',
      '/many 4096 40755 2 0 0 0 0.0 - - -',
      ...many,
    ]),
  );
}

let objects: Layer | undefined;

/** A directory with one object. */
function objectLayer(): Layer {
  if (objects) return objects;
  const home = mkdtempSync(join(tmpdir(), 'objects-'));
  writeFileSync(join(home, 'object'), DATA);
  objects = new DirLayer(home);
  return objects;
}

const NAMES = [
  'good',
  'again',
  'object',
  'short',
  'wrong',
  'content',
  'holes',
  'link',
  'pipe',
  'null',
  'bad',
  'many',
  '0',
  'no',
].concat(['top', 'only', 'below', 'gone']);

/** The layers above the image. An image alone needs no OPENDIR; one below a layer that may change does. */
const ABOVE: readonly (readonly Layer[])[] = [
  [],
  [
    new FakeLayer(
      'top',
      dir({
        top: file('top'),
        many: dir({ only: file('x'), below: link('many') }),
        good: whiteout,
        gone: file('', { whiteout: '' }),
      }),
    ),
  ],
];
export const SERVED = ABOVE.length;
const made: Served[] = [];

/** The stack with a number below SERVED. */
export function served(number: number): Served {
  made[number] ??= {
    overlay: new Overlay([...(ABOVE[number] as Layer[]), image()], [objectLayer()], settleRules()),
    names: NAMES,
  };
  return made[number];
}
