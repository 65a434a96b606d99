import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { linesOf, parseDump, printDump } from '../../src/builder/dumpfile.ts';
import { printImage } from '../../src/builder/print.ts';
import { readTree } from '../../src/builder/read.ts';
import { writeImage } from '../../src/builder/write.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ErrnoError } from '../../src/sys/errno.ts';
import { type GoldenDump, goldenDumps } from '../fixtures/golden-dumps.ts';
import { goldenFolder } from '../fixtures/golden-images.ts';

/**
 * A line without what an image does not keep: sizes and link counts of directories, and the order of xattrs; with hard
 * links, which name came first and so the payload; in version 1, which marks them, whether a directory was opaque.
 */
function essence(line: string, links: boolean, version: number): string {
  const [path, size, type = '', nlink, uid, gid, rdev, mtime, payload, content, digest, ...xattrs] = line.split(' ');
  const mode = type.replace('@', '');
  const count = mode.startsWith('4') ? [] : [size, nlink];
  const kept = xattrs.filter(xattr => version === 0 || !/^(trusted|user)\.overlay\.opaque=/.test(xattr)).sort();
  return [path, mode, ...count, uid, gid, rdev, mtime, links ? '' : payload, content, digest, ...kept].join(' ');
}

for (const { name, text, images } of goldenDumps()) {
  const [{ maxVersion, minVersion }] = images as [(typeof images)[0]];
  const first = parseDump(linesOf([text]));
  const image = writeImage(first, { minVersion, maxVersion });
  const version = openImage(image).composefs?.composefsVersion as number;
  const before = [...printDump(first)];
  const after = [...printDump(readTree(openImage(image)))];
  const links = before.some(line => /^\S+ \S+ @/.test(line));
  const essences = (lines: string[]): string[] => lines.map(line => essence(line, links, version));
  t.same(essences(after), essences(before), `${name}: the tree comes back from its image`);
  const again = writeImage(parseDump(after), { minVersion, maxVersion });
  if (!links) t.equal(Buffer.compare(again, image), 0, `${name}: the image comes back from that tree`);
  t.same([...printDump(readTree(openImage(again)))], after, `${name}: the dump is a fixed point`);
}

const real = readFileSync(join(goldenFolder, 'real', 'typescript-5.9.2.cfs'));
t.equal(Buffer.compare(writeImage(readTree(openImage(real))), real), 0, 'a real image comes back from its tree');

const tree = readTree(openImage(real), { toplevel: new Set(['package']) });
t.same([...tree.entries.keys()], ['package'], 'only the names asked for');
t.equal(readTree(openImage(real), { toplevel: new Set() }).entries.size, 0, 'not even one');

const withOrigin = [
  '/ 4096 40755 2 0 0 0 0.0 - - -',
  `/f 9 100644 1 0 0 0 0.0  - ${'ab'.repeat(32)} trusted.overlay.origin=\\x00\\xfb trusted.overlay.origin=x`,
  '/g 9 100644 1 0 0 0 0.0  - -',
];
const imageWithOrigin = writeImage(parseDump(withOrigin));
t.same(
  [...printDump(readTree(openImage(imageWithOrigin)))].slice(1),
  [withOrigin[1], withOrigin[2]?.replace('  -', ' - -')],
  'an origin comes back',
);
t.same(
  [...printImage(imageWithOrigin)]
    .map(line => line.split('  ').at(-1))
    .filter(xattr => /overlay\.(overlay|origin|redirect)/.test(xattr ?? '')),
  ['4:overlay.origin=\\x00\\xfb', '4:overlay.overlay.origin=x', '4:overlay.redirect='],
  'the redirect is empty, and the xattr of the tree is escaped',
);

/** Bytes chosen by a fixed generator. Source: xorshift32, Marsaglia 2003. */
let state = 0x2545f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}
t.test('a damaged image is read or refused, never more', async t => {
  const { bytes } = goldenDumps().find(dump => dump.name === 'small-0.dump') as GoldenDump & { bytes: Buffer };
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    const damaged = Buffer.from(bytes);
    for (let n = random(8); n >= 0; n--) damaged[1024 + random(damaged.length - 1024)] = random(256);
    try {
      for (const line of printDump(readTree(openImage(damaged)))) void line;
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 0 && refused < 3000, `${refused} of 3000 are refused`);
});
