import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { goldenFolder, goldenImages } from '../fixtures/images/golden-images.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';

t.setTimeout(300_000); // many processes are started

type Answers = Record<'ls' | 'dump' | 'objects', string>;
/** SHA-256 of what composefs-info prints of each golden image. */
const printed = JSON.parse(readFileSync(join(goldenFolder, 'info.json'), 'utf8')) as Record<string, Answers>;
const sha256 = (text: string): string => createHash('sha256').update(Buffer.from(text, 'latin1')).digest('hex');

for (const [name, path] of goldenImages())
  for (const question of ['ls', 'dump', 'objects'] as const) {
    const { status, stdout } = runCommand(['info', question, path]);
    t.same(
      [status, sha256(stdout)],
      [0, printed[name]?.[question]],
      `${question} of ${name} is that of composefs-info`,
    );
  }

/** A tree with one of everything that is printed in a way of its own; the sizes of directories are those in an image. */
const dump = [
  '/ 4096 40755 3 0 0 0 0.0 - - -',
  '/d 40 40755 2 0 0 0 0.0 - - -',
  '/d/f 100 100644 1 0 0 0 0.0 ab/one - -',
  '/l 2 120777 2 0 0 0 0.0 to - -',
  '/m 2 @120777 2 0 0 0 0.0 /l - -',
  '/sp\\x20\\xffa=\\\\x20 5 100644 1 0 0 0 0.0 x - - user.a\\x3d=b\\x00',
  '/w 5 100644 2 0 0 0 0.0 /x\\x20\\xffy - -',
  '/y 0 20644 1 0 0 5 0.0 - - -',
  '',
].join('\n');

withScratch(directory => {
  const at = (name: string): string => join(directory, name);
  const image = at('image');
  t.equal(runCommand(['mkfs', '--from-file', '-', image], { input: dump }).status, 0, 'an image');
  mkdirSync(at('base/ab'), { recursive: true });
  writeFileSync(at('base/ab/one'), '');
  writeFileSync(at('empty'), '');
  const second = [image, join(goldenFolder, 'images', 'small-1.cfs')];

  /** The text is what composefs-info prints. */
  const list = [
    '/d/\t',
    '/d/f\t@ ab/one',
    '/l\t-> to',
    '/m',
    '/sp \\xffa=\\\\x20\t@ x',
    '/w\t@ /x\\x20\\xffy',
    '/y',
    '',
  ];
  for (const [rule, args, want] of [
    ['a list', ['ls', image], list],
    ['a list of what is below a name', ['--filter', 'd', 'ls', image], ['/d/\t', '/d/f\t@ ab/one', '']],
    ['of several', ['ls', '--filter=d', '--filter=l', image], ['/d/\t', '/d/f\t@ ab/one', '/l\t-> to', '']],
    ['the dump', ['dump', image], dump.split('\n')],
    ['objects, as they are', ['objects', image], ['/x \xffy', 'ab/one', 'x', '']],
    ['missing ones', ['--basedir', at('base'), 'missing-objects', image], ['/x \xffy', 'x', '']],
    ['all are missing without a base directory', ['missing-objects', image], ['/x \xffy', 'ab/one', 'x', '']],
    ['several images, one after the other', ['ls', image, image], [...list.slice(0, -1), ...list]],
    ['objects of several images, once', ['objects', image, image], ['/x \xffy', 'ab/one', 'x', '']],
  ] as const)
    t.same(runCommand(['info', ...args]), { status: 0, stdout: want.join('\n'), stderr: '' }, rule);
  t.equal(
    runCommand(['info', 'objects', ...second]).stdout.split('\n').length,
    runCommand(['info', 'objects', second[1] as string]).stdout.split('\n').length + 3,
    'objects of different images come together',
  );

  /** Source: fsverity digest --compact. */
  const measured = '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95';
  t.equal(runCommand(['info', 'measure-file', at('empty')]).stdout, `${measured}\n`, 'the digest of a file');

  /** Source: fsverity digest --compact --hash-alg=sha512. */
  const long =
    'ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d10adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf';
  t.equal(
    runCommand(['info', '--algorithm=sha512', 'measure-file', at('empty')]).stdout,
    `${long}\n`,
    'of SHA-512 where that is asked for',
  );

  writeFileSync(at('junk'), Buffer.alloc(8192));
  const listed = `${list.join('\n')}`;
  for (const [rule, args, want] of [
    ['a file that is not there', ['measure-file', at('empty'), at('none'), at('empty')], `${measured}\n${measured}\n`],
    ['an image that is not there', ['ls', image, at('none'), image], listed + listed],
    ['one that is none', ['dump', image, at('junk'), image], dump + dump],
    ['in a listing of all bytes', ['print', at('junk'), image], runCommand(['info', 'print', image]).stdout],
    ['among objects', ['objects', image, at('none')], '/x \xffy\nab/one\nx\n'],
  ] as const) {
    const { status, stdout, stderr } = runCommand(['info', ...args]);
    t.same([status, stdout], [1, want], `${rule} does not hide the others`);
    t.match(stderr, /^lowerdata: .*(none|junk)/, `and is told of: ${rule}`);
  }
  symlinkSync(lowerdata, at('composefs-info'));
  const tool = runCommand(['measure-file', at('empty'), at('none')], { as: at('composefs-info') });
  t.same([tool.status, tool.stdout], [1, `${measured}\n`], 'measure-file of composefs-info, too');

  mkdirSync(at('outside'));
  writeFileSync(at('outside/secret'), '');
  symlinkSync(at('outside/secret'), at('base/ab/link'));
  symlinkSync('..', at('base/up'));
  mkdirSync(at('base/ab/directory'));
  const places = ['../outside/secret', 'ab/directory', 'ab/link', 'ab/one', 'up/outside/secret'];
  const leads = places.map((payload, i) => `/f${i} 9 100644 1 0 0 0 0.0 ${payload} - -\n`).join('');
  runCommand(['mkfs', '--from-file', '-', at('leads')], { input: `/ 4096 40755 2 0 0 0 0.0 - - -\n${leads}` });
  t.equal(
    runCommand(['info', '--basedir', at('base'), 'missing-objects', at('leads')]).stdout,
    places
      .filter(place => place !== 'ab/one')
      .join('\n')
      .concat('\n'),
    'what lies outside of the base directory, and what is no regular file, is missing as it is for a mount',
  );

  const json = (...args: string[]): Record<string, unknown> =>
    JSON.parse(runCommand(['info', '--json', ...args]).stdout);
  t.match(
    json('dump', image).images,
    [
      {
        image,
        entries: [
          { path: '/', type: 'directory', mode: '0755' },
          { path: '/d' },
          { path: '/d/f', size: 100, object: 'ab/one' },
          { path: '/l', target: 'to' },
          { path: '/m', hardLinkTo: '/l' },
          { path: '/sp \\xffa=\\x5cx20', xattrs: { 'user.a=': 'b\\x00' } },
          { path: '/w' },
          { path: '/y', device: '0:5' },
        ],
      },
    ],
    'a dump as JSON',
  );
  t.match(
    json('ls', image).images,
    [{ entries: [{ path: '/' }, { path: '/d' }, { path: '/d/f', object: 'ab/one' }] }],
    'a list',
  );
  t.same(json('objects', image).objects, ['/x \\xffy', 'ab/one', 'x'], 'objects');
  t.same(json('measure-file', at('empty')).files, [{ file: at('empty'), digest: measured }], 'digests');

  t.match(
    runCommand(['info', 'print', image]).stdout,
    /^00000000 {4}4 {2}composefs\.magic {2}0xd078629a$/m,
    'all bytes',
  );

  const byOrigin = `/ 4096 40755 2 0 0 0 0.0 - - -\n/f 9 100644 1 0 0 0 0.0  - - trusted.overlay.origin=\\x00\\xfb\n`;
  runCommand(['mkfs', '--from-file', '-', at('origin')], { input: byOrigin });
  t.match(json('dump', at('origin')).images, [{ entries: [{}, { object: '', origin: '00fb' }] }], 'an origin in hex');
  t.equal(runCommand(['info', 'objects', at('origin')]).stdout, '', 'what has no path is not listed as an object');

  writeFileSync(at('damaged'), readFileSync(image).fill(0xff, 1152, 1400));
  for (const [rule, args, message] of [
    ['no question', [], /the argument <question> is missing/],
    ['no image', ['ls'], /the argument <images> is missing/],
    [
      'another question',
      ['list', image],
      'lowerdata: list: not one of ls, dump, objects, missing-objects, measure-file, print',
    ],
    ['a path as filter', ['--filter=a/b', 'ls', image], 'lowerdata: --filter=a/b: one name, without a slash'],
    ['a missing image', ['ls', at('none')], /ENOENT|no such file/i],
    ['no image at all', ['ls', at('junk')], /junk: not an EROFS image/],
    ['a damaged image', ['ls', at('damaged')], /damaged: /],
    ['a base that is no directory', ['--basedir', image, 'missing-objects', image], /image: not a directory/],
    [
      'another algorithm',
      ['--algorithm=md5', 'measure-file', image],
      'lowerdata: --algorithm=md5: not one of sha256, sha512',
    ],
    ['an algorithm for an image', ['--algorithm=sha512', 'ls', image], 'lowerdata: --algorithm goes with measure-file'],
    ['a listing as JSON', ['--json', 'print', image], 'lowerdata: print has no JSON output'],
  ] as const) {
    const { status, stdout, stderr } = runCommand(['info', ...args]);
    t.same([status, stdout], [1, ''], `refused: ${rule}`);
    t.match(stderr, message, `${rule}: the reason`);
  }
});
