import { readFileSync } from 'node:fs';
import t from 'tap';
import { linesOf, parseDump } from '../../src/composefs/dumpfile.ts';
import { printImage } from '../../src/composefs/print.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { EINVAL, ErrnoError } from '../../src/sys/errno.ts';
import { goldenDumps } from '../fixtures/images/golden-dumps.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';

interface Line {
  at: number;
  length: number;
  name: string;
}
function parse(line: string): Line {
  const [, at, length, name] = /^(\d{8,}) +(\d*) {2}(.*)$/.exec(line) as unknown as [string, string, string, string];
  return { at: Number(at), length: Number(length), name };
}

for (const [name, path] of goldenImages()) {
  const bytes = readFileSync(path);
  let next = 0;
  const wrong: string[] = [];
  for (const text of printImage(bytes)) {
    const { at, length, name } = parse(text);
    if (at !== next || /^(!|unclaimed|corrupt)/.test(name)) wrong.push(text);
    next = at + length;
  }
  t.same(wrong, [], `${name}: every byte has its one line`);
  t.equal(next, bytes.length, `${name}: up to the end`);
}

const image = writeImage(parseDump(['/ 0 40755 2 0 0 0 9.5 - - - user.a=1', '/f 5 100644 1 0 0 0 9.5 - hello -']));
const lines = [...printImage(image)];
/** Offsets and values worked out from the layout in fs/erofs/erofs_fs.h. */
for (const line of [
  '00000000    4  composefs.magic  0xd078629a',
  '00000016 1008  padding  1008 zero bytes',
  '00001024    4  superblock.magic  0xe0f5e1e2',
  '00001040    8  superblock.inos  258',
  '00001048    8  superblock.epoch  9',
  '00001152       nid 36 /: directory, compact, plain',
  '00001156    2  nid 36.i_mode  040755',
  '00001196   19  nid 36.xattr  4:overlay.opaque=y',
  '00001215    1  padding  1 zero bytes',
  '00001216    6  nid 36.xattr  1:a=1',
])
  t.ok(lines.includes(line), line);
t.match(
  lines.find(line => line.includes('.data')),
  /^\d{8} {4}5 {2}nid \d+\.data {2}hello$/,
  'content shows as text',
);

for (const [rule, damage, want] of [
  [
    'bytes that nothing claims',
    (b: Buffer) => b.write('?', 1023),
    /^00000016 1008 {2}unclaimed|^00001008 {3}16 {2}unclaimed {2}.*\?$/,
  ],
  [
    'an inode of no type',
    (b: Buffer) => b.writeUInt16LE(0, 1152 + 4 + 64 + 32),
    /corrupt: nid \d+: mode 00 has no type/,
  ],
] as const) {
  const damaged = Buffer.from(image);
  damage(damaged);
  t.ok(
    [...printImage(damaged)].some(line => want.test(line)),
    `${rule} show`,
  );
}
t.throws(
  () => [...printImage(new Uint8Array(4096))],
  { errno: EINVAL, message: /not an EROFS image/ },
  'what is no image is refused',
);

/** Bytes chosen by a fixed generator. Source: xorshift32, Marsaglia 2003. */
let state = 0x2545f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}
t.test('a damaged image is listed or refused', async t => {
  const { text } = goldenDumps().find(dump => dump.name === 'small-0.dump') as { text: Uint8Array };
  const whole = writeImage(parseDump(linesOf([text])));
  let listed = 0;
  for (let i = 0; i < 300; i++) {
    const damaged = Buffer.from(whole);
    for (let n = random(8); n >= 0; n--) damaged[1024 + random(damaged.length - 1024)] = random(256);
    try {
      for (const line of printImage(damaged)) void line;
      listed++;
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
    }
  }
  t.ok(listed > 0, `${listed} of 300 are listed`);
});
