import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openOverlay, openStack as openText } from '../../src/overlay/open.ts';
import type { StackOptions } from '../../src/overlay/options/rules.ts';
import { type Judge, MISSING, step } from '../../src/overlay/step.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { nodeAt, openStack, optionsOf, scratch } from '../fixtures/layers.ts';
import { descriptors, python } from '../fixtures/native.ts';

const golden = join(goldenFolder, 'images', 'small-1.cfs');

t.test('a stack that cannot be opened is refused by the name of its layer, and leaves nothing open', async t => {
  const home = scratch(t);
  for (const name of ['A', 'B', 'A/inside', 'A/inside/deep', 'C']) mkdirSync(join(home, name));
  writeFileSync(join(home, 'text'), 'x'.repeat(8192));
  symlinkSync('A', join(home, 'link'));
  symlinkSync('/dev/null', join(home, 'null'));
  symlinkSync('loop', join(home, 'loop'));
  copyFileSync(golden, join(home, 'image'));
  const before = process.cwd();
  process.chdir(home);
  t.teardown(() => process.chdir(before));

  const wrong = '0'.repeat(64);
  const table: [string, string, string, RegExp, Partial<StackOptions>?][] = [
    ['S6: a missing layer', 'A:none', 'ENOENT', /layer none: No such file or directory/],
    ['S6: a missing data-only layer', 'A:B::none', 'ENOENT', /layer none/],
    ['S6: a missing one under a file', 'A:text/x', 'ENOTDIR', /layer text\/x/],
    ['S6: a symlink to itself', 'A:loop', 'ELOOP', /layer loop: Too many levels of symbolic links/],
    ['S6: neither a directory nor an image', 'A:text', 'EINVAL', /text: not an EROFS image/],
    ['S6: a device', 'A:null', 'EINVAL', /layer null: neither/],
    ['S6: the same twice', 'A:B:A', 'ELOOP', /layer A is the same as layer A/],
    ['S6: the same by a symlink', 'A:link', 'ELOOP', /layer link is the same as layer A/],
    ['S6: the same by another spelling', 'A:B/../A/.', 'ELOOP', /is the same as/],
    ['S6: the same as data', 'A:B::A', 'ELOOP', /is the same as/],
    ['S6: the same image', 'image:image', 'ELOOP', /is the same as/],
    ['S6: one inside another', 'A:B:A/inside', 'ELOOP', /layer A\/inside lies inside layer A/],
    ['S6: whichever comes first', 'A/inside/deep:B:A', 'ELOOP', /lies inside layer A/],
    ['S6: a data-only one inside another', 'A:B::A/inside', 'ELOOP', /lies inside/],
    ['S6: one inside a data-only one', 'A/inside:B::A', 'ELOOP', /lies inside/],
    ['S6: one inside by a symlink', 'B:A:link/inside', 'ELOOP', /lies inside/],
    ['an image of another digest', 'image:A', 'EIO', /EWRONGVERITY: layer image/, { imageDigest: wrong }],
    ['a directory instead of an image', 'A:image', 'EINVAL', /layer A: not an image/, { imageDigest: wrong }],
  ];
  openOverlay(optionsOf('A:B')).close(); // the process keeps /proc/self/fd open from then on
  const open = descriptors();
  for (const [rule, lowerdir, name, message, options] of table) {
    t.throws(() => openOverlay(optionsOf(lowerdir, options)), { name, message }, rule);
  }
  t.equal(descriptors(), open, 'no descriptor is left');
  openOverlay(optionsOf('A:B:image::C')).close();
  t.equal(descriptors(), open, 'nor after a stack that was opened and closed');
});

t.test('a stack by its text', async t => {
  const home = scratch(t);
  for (const name of ['A', 'B', 'C', 'with:colon']) mkdirSync(join(home, name));
  copyFileSync(golden, join(home, 'image'));
  const before = process.cwd();
  process.chdir(home);
  t.teardown(() => process.chdir(before));

  const own: Judge = () => MISSING;
  const both = { metacopy: true, redirectDir: 'follow', verity: 'on', userxattr: false, followOrigin: true };
  for (const [what, source, choices, judge, want] of [
    ['directories', 'A:B::C', {}, undefined, { ...both, redirects: 'kernel' }],
    ['images', 'image::C', {}, undefined, { ...both, redirects: 'data-only' }],
    ['an image above a directory', 'image:A', {}, undefined, { ...both, redirects: 'kernel' }],
    ['choices', 'image::C', { verity: 'off', redirects: 'strict' }, own, { verity: 'off', redirects: 'strict' }],
    ['userxattr', 'A:B', { userxattr: true }, undefined, { metacopy: false, redirectDir: 'nofollow' }],
    ['a colon', 'A:with\\:colon', {}, undefined, {}],
  ] as const) {
    const overlay = openText(source, choices, judge);
    t.match(overlay.options, want, what);
    t.equal(overlay.judge, judge ?? step, `${what}: the rule`);
    overlay.close();
  }
  t.throws(() => openText('none::C'), { name: 'ENOENT', message: /layer none/ }, 'a missing layer');
  t.throws(() => openText('A:::B'), { name: 'EINVAL', message: /stack=A:::B/ }, 'colons');
  t.throws(() => openText('A', { userxattr: true, metacopy: true }), { name: 'EINVAL' }, 'a conflict');
});

t.test('a layer is looked up as by open(2)', async t => {
  const home = scratch(t);
  const place = python(
    `import os, sys
p = os.fsencode(sys.argv[1]) + b'/caf\\xe9: \\xff,\\n'
os.makedirs(p + b'/sub')
open(p + b'/sub/file', 'w').write('here')
sys.stdout.buffer.write(p)`,
    [home],
  );
  symlinkSync('.', join(home, 'here'));
  mkdirSync(join(home, 'B'));
  const overlay = openStack(t, `${place.replaceAll(':', '\\:')}:${home}/here/./here/B`);
  const data = overlay.open(nodeAt(overlay, '/sub/file'));
  if (typeof data === 'number') return t.fail(`open: ${data}`);
  t.equal(data.sizeBytes, 4, 'any bytes may be in its name; symlinks and dots are followed');
  data.close();

  const utf8 = join(home, 'größe');
  mkdirSync(join(utf8, 'x'), { recursive: true });
  openStack(t, `${byteStringFromText(utf8)}:${home}/B`);
  t.pass('a name of UTF-8 bytes');
});

t.test('images as layers', async t => {
  const home = scratch(t);
  const objects = join(home, 'objects');
  mkdirSync(objects);
  const image = join(objects, 'image');
  copyFileSync(golden, image);
  mkdirSync(join(home, 'A'));
  symlinkSync(image, join(home, 'link'));

  t.equal(openStack(t, `${image}::${objects}`).immutable, true, 'an image may lie among its objects');
  t.equal(openStack(t, `${home}/link::${objects}`).immutable, true, 'also by a symlink; data does not change the tree');
  t.equal(openStack(t, `${home}/A:${image}`).immutable, false, 'a directory can change, even over an image');

  for (const algorithm of ['sha256', 'sha512'] as const) {
    const hex = fsverityDigest(image, algorithm);
    for (const imageDigest of [hex, `${algorithm}:${hex}`])
      t.equal(openStack(t, image, { imageDigest }).immutable, true, `an image of the right digest: ${algorithm}`);
    const other = hex.replace(/./g, '0');
    t.throws(() => openOverlay(optionsOf(image, { imageDigest: other })), { name: 'EIO' }, `another: ${algorithm}`);
  }
  const invalid = { imageDigest: 'ab' };
  t.throws(() => openOverlay(optionsOf(image, invalid)), { name: 'EINVAL' }, 'a digest that is none');
  const digest = fsverityDigest(image);
  const overlay = openStack(t, `${image}::${objects}`, { imageDigest: digest });
  renameSync(image, `${image}.old`);
  t.ok(overlay.list(overlay.root).length > 0, 'an image of the right digest stays in use when its file goes');
});

t.test('an image with one wrong bit', { timeout: 120_000 }, async t => {
  const smallest = join(goldenFolder, 'images', 'acl-0.cfs');
  const imageDigest = fsverityDigest(smallest);
  const image = join(scratch(t), 'image');
  copyFileSync(smallest, image);
  const options = optionsOf(image, { imageDigest });
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0; // half of the time
  const answers = new Map<string, number>();
  let tried = 0;
  const fd = openSync(image, 'r+');
  for (const [at, byte] of readFileSync(smallest).entries()) {
    const end = byte === 0 && at >= 4096 ? 2 : 256; // what fills blocks has one bit changed, not all
    for (let bit = 1; bit < end; bit <<= 1) {
      writeSync(fd, Buffer.of(byte ^ bit), 0, 1, at);
      const answer = answerOf(() => openOverlay(options).close());
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
      tried++;
    }
    writeSync(fd, Buffer.of(byte), 0, 1, at);
  }
  closeSync(fd);
  Error.stackTraceLimit = stackTraceLimit;
  t.ok(tried > 40_000, `${tried} images`);
  t.strictSame(
    Object.fromEntries(answers),
    { 'EIO: EWRONGVERITY': tried - 32, 'EINVAL: not an EROFS image': 32 },
    'is refused by its digest before anything is made of it; without the magic number it is no image',
  );
  t.equal(
    answerOf(() => openOverlay(options).close()),
    'opened',
    'and as it was, it is opened',
  );
});

/** The error of an attempt, and the part of its message that says which check failed. */
function answerOf(attempt: () => void): string {
  try {
    attempt();
    return 'opened';
  } catch (error) {
    const { name, message } = error as Error;
    return `${name}: ${/EWRONGVERITY|not an EROFS image/.exec(message)?.[0] ?? message}`;
  }
}

t.end();
