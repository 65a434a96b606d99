/** Proves what people are told about an image whose objects are not named, or not as objects. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

/** A stack, the line about it, and how `check` and `fsck` end. */
const STACKS = [
  ['image::objects', '', 0, 0],
  [
    'image',
    'image: the data of 3 files tried is missing: No such file or directory; name the directory of the objects: image::OBJECTS, or -o basedir=OBJECTS',
    1,
    4,
  ],
  [
    'image::mnt',
    "image: the data of 3 files tried is missing: No such file or directory; check that mnt is the directory of this image's objects",
    1,
    4,
  ],
  [
    'image:objects',
    'objects: a lower layer that holds objects, whose names are part of the mount; write two colons: image::objects',
    1,
    0,
  ],
  [
    'empty:image',
    'image: the data of 3 files tried is missing: No such file or directory; name the directory of the objects: empty:image::OBJECTS, or -o basedir=OBJECTS',
    1,
    4,
  ],
  [
    'image:missing::mnt',
    'missing: a lower layer that holds objects, whose names are part of the mount; write two colons: image::missing:mnt',
    1,
    0,
  ],
  ['tree', '', 0, 0],
] as const;

t.test('objects of an image', { skip: withoutFuse, timeout: 120_000 }, async t =>
  withScratch(directory => {
    const run = (...args: string[]): { status: number | null; stdout: string; stderr: string } => {
      const options = { cwd: directory, encoding: 'utf8', timeout: 30_000 } as const;
      const { status, stdout, stderr } = spawnSync(process.execPath, [lowerdata, ...args], options);
      return { status, stdout, stderr };
    };
    for (const name of ['tree', 'tree/d', 'mnt', 'empty']) mkdirSync(join(directory, name));
    for (const name of ['a', 'b', 'd/c']) writeFileSync(join(directory, 'tree', name), name.repeat(1000));
    t.equal(run('mkfs', '--digest-store=objects', 'tree', 'image').status, 0);
    symlinkSync('objects', join(directory, 'missing'));

    for (const [stack, line, checked, fscked] of STACKS) {
      const said = line === '' ? '' : `lowerdata: ${line}\n`;
      t.same(run('mount', stack, 'mnt'), { status: 0, stdout: '', stderr: said }, `${stack}: at mount`);
      const status = run('status', 'mnt').stdout;
      t.match(status, `  layers      ${directory}/`, `${stack}: absolute paths in status`);
      t.equal(/^ {2}finding {5}(.*)$/m.exec(status)?.[1] ?? '', line, `${stack}: in status`);
      const [mount] = JSON.parse(run('status', '--json', 'mnt').stdout).mounts as { finding: object | null }[];
      t.equal(mount?.finding === null, line === '', `${stack}: in the JSON of status`);
      t.equal(run('umount', 'mnt').status, 0);

      const check = run('check', stack);
      t.equal(check.status, checked, `${stack}: check`);
      t.equal(check.stdout.includes(line), true, `${stack}: check says so`);
      t.ok(check.stdout.split('\n').length <= 3, `${stack}: check does not list all files`);
      const fsck = run('fsck', stack);
      t.equal(fsck.status, fscked, `${stack}: fsck`);
      t.equal(fsck.stdout.includes(line), true, `${stack}: fsck says so`);
      t.ok(fsck.stdout.split('\n').length <= 3, `${stack}: fsck does not list all files`);
    }
    const lines = run('check', '--json', 'image').stdout.trim().split('\n');
    t.same(
      lines.map(text => (JSON.parse(text) as { path: string }).path).sort(),
      ['/', '/a', '/b', '/d/c'],
      'JSON lists all files',
    );
  }),
);
