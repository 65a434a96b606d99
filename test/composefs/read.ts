import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { linesOf, parseDump } from '../../src/composefs/dumpfile.ts';
import { printImage } from '../../src/composefs/print.ts';
import { printDump } from '../../src/composefs/print-dump.ts';
import { readTree } from '../../src/composefs/read.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ErrnoError } from '../../src/sys/errno.ts';
import { type GoldenDump, goldenDumps } from '../fixtures/images/golden-dumps.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';

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

/** Why a dump that was printed cannot be read; ''. One inode may have half of the xattrs that an image holds: so in mkcomposefs. */
function whyUnreadable(dump: string[]): string {
  try {
    parseDump(dump);
    return '';
  } catch (error) {
    return /the xattrs need up to/.test(String(error)) ? '' : String(error);
  }
}

/** Dumps, the SHA-256 of the image that mkcomposefs 1.0.8 makes of each, and what composefs-info 1.0.8 prints of that. */
const top = '/ 4096 40755 2 0 0 0 0.0 - - -';
for (const [rule, lines, sha256, printed] of [
  [
    'times of 64 bits',
    [
      top,
      '/a 0 100644 1 0 0 0 9223372036854775807.4294967295 - - -',
      '/b 0 100644 1 0 0 0 -9223372036854775808.999999999 - - -',
      '/c 0 100644 1 0 0 0 9007199254740993.0 - - -',
      '/d 0 100644 1 0 0 0 -9007199254740993.5 - - -',
    ],
    '1b53623496452b27eb8c157fabf4f1827da68bc54cfa33ce876ffd931de26daa',
  ],
  [
    'one such time for all',
    ['/ 4096 40755 2 0 0 0 9007199254740993.7 - - -', '/a 0 100644 1 0 0 0 9007199254740993.7 - - -'],
    '77c718e19919d01077c20169b988fcab60461046e9150ac098585035bd76a81a',
  ],
  [
    'a file with content that an xattr makes a whiteout',
    [top, '/f 5 100644 1 0 0 0 0.0 - hello - trusted.overlay.whiteout='],
    '311a3db99e94659563a43451bd213780302b52ae828d6af1463f7d579b18b6e5',
    [top, '/f 0 20644 1 0 0 0 0.0 -  -'],
  ],
  [
    'lines that end before the last fields',
    [
      '/ 4096 40555 2 0 0 0 1633950376.0 - - -',
      '/chardev 0 20720777 1 0 0 0 0.0 a',
      '/d 0 40755 2 0 0 0 0.0',
      '/l 0 120777 1 0 0 0 0.0 to',
      '/m 2 100644 1 0 0 0 0.0 - ab',
    ],
    '27e4baa29d6a4156d90fa2544acce0c5fcb991f89d1333f4f1a91af04750c54d',
    [
      '/ 4096 40555 3 0 0 0 1633950376.0 - - -',
      '/chardev 1 120777 1 0 0 0 0.0 a - -',
      '/d 27 40755 2 0 0 0 0.0 - - -',
      '/l 2 120777 1 0 0 0 0.0 to - -',
      '/m 2 100644 1 0 0 0 0.0 - ab -',
    ],
  ],
] as const) {
  const image = writeImage(parseDump(lines));
  t.equal(createHash('sha256').update(image).digest('hex'), sha256, `${rule}: the image of mkcomposefs`);
  const dump = [...printDump(readTree(openImage(image)))];
  t.same(dump, printed ?? lines, `${rule}: the dump of composefs-info`);
  t.equal(whyUnreadable(dump), '', `${rule}: which can be read`);
}

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
  let unreadable = '';
  for (let i = 0; i < 3000; i++) {
    const damaged = Buffer.from(bytes);
    for (let n = random(8); n >= 0; n--) damaged[1024 + random(damaged.length - 1024)] = random(256);
    try {
      const dump = [...printDump(readTree(openImage(damaged)))];
      unreadable ||= whyUnreadable(dump);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 0 && refused < 3000, `${refused} of 3000 are refused`);
  t.equal(unreadable, '', 'a dump that is printed can be read');
});
