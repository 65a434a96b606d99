/** ls, cat and stat without a mount, against coreutils on a kernel mount of the same layers. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

function run(directory: string, ...args: string[]): Result {
  const { status, stdout, stderr } = spawnSync(process.execPath, [lowerdata, ...args], {
    cwd: directory,
    encoding: 'latin1',
    maxBuffer: 1 << 24,
  });
  return { status, stdout, stderr: stderr.trim() };
}

/** What a program prints for the kernel's mount of A:B. */
function reference(directory: string, program: string, ...args: string[]): string {
  const env = { ...process.env, LC_ALL: 'C', TZ: 'UTC' };
  return execFileSync(program, args, { cwd: join(directory, 'mnt'), env, encoding: 'latin1', maxBuffer: 1 << 24 });
}

function makeLayers(directory: string): void {
  for (const name of ['A', 'B', 'A/d', 'B/d', 'B/d/deep', 'A/d/empty', 'mnt']) mkdirSync(join(directory, name));
  const at = (path: string): string => join(directory, path);
  writeFileSync(at('A/file'), 'the top\n');
  writeFileSync(at('B/file'), 'hidden\n');
  writeFileSync(at('B/d/below'), Buffer.from([0, 255, 10, 128]));
  writeFileSync(at('B/d/deep/big'), Buffer.alloc(3 << 20, 'x'));
  writeFileSync(at('A/.dot'), '');
  writeFileSync(Buffer.from(at('A/\xff raw'), 'latin1'), 'raw');
  linkSync(at('A/file'), at('A/hard'));
  symlinkSync('d/../file', at('A/link'));
  symlinkSync('/d', at('B/absolute'));
  symlinkSync('loop', at('B/loop'));
  symlinkSync('../../../../file', at('A/d/out'));
  execFileSync('mknod', [at('B/null'), 'c', '1', '3']);
  execFileSync('mknod', [at('A/gone'), 'c', '0', '0']);
  execFileSync('mkfifo', [at('B/fifo')]);
  writeFileSync(at('B/gone'), 'not there');
  for (const [i, mode] of [0o0, 0o7777, 0o4644, 0o2755, 0o1666, 0o4711].entries()) {
    writeFileSync(at(`A/d/mode${i}`), '');
    chownSync(at(`A/d/mode${i}`), 1000 * i, 5);
    chmodSync(at(`A/d/mode${i}`), mode);
    utimesSync(at(`A/d/mode${i}`), 0, 1.5e9 * (i % 2) + i / 8 - 1e6);
  }
  chmodSync(at('A/d'), 0o1777);
  lutimesSync(at('A/link'), 0, -1e9);
}

t.test('against the kernel', { skip: withoutRoot }, async t => {
  withScratch(directory => {
    makeLayers(directory);
    const mnt = byteStringFromText(join(directory, 'mnt'));
    must(native.mount('none', mnt, 'overlay', 1, `lowerdir=${directory}/A:${directory}/B`), 'mount');
    try {
      for (const path of ['.', 'd', 'd/deep', 'd/empty', 'link', 'null']) {
        t.equal(run(directory, 'ls', 'A:B', path).stdout, reference(directory, 'ls', '-1', path), `ls ${path}`);
        const wanted = reference(directory, 'ls', '-ln', '--time-style=long-iso', path).replace(/^total .*\n/, '');
        t.equal(run(directory, 'ls', '-l', 'A:B', path).stdout, wanted, `ls -l ${path}`);
      }
      t.equal(run(directory, 'ls', '-d', 'A:B', 'd').stdout, reference(directory, 'ls', '-d', 'd'));
      t.equal(run(directory, 'ls', 'A:B', 'd/deep', 'd/empty').stdout, reference(directory, 'ls', 'd/deep', 'd/empty'));
      t.equal(run(directory, 'ls', '-a', 'A:B', '.').stdout, reference(directory, 'ls', '-A', '.'), 'ls -a');
      for (const paths of [['file'], ['link'], ['d/below', 'file'], ['d/deep/big']]) {
        t.ok(run(directory, 'cat', 'A:B', ...paths).stdout === reference(directory, 'cat', ...paths), `cat ${paths}`);
      }
      for (const path of ['file', 'd', 'link', 'null', 'fifo', 'd/mode1', 'd/mode4']) {
        const format = '(%04a/%A)  Uid: %u  Gid: %g\nModify: %y\nChange: %z';
        const shown = run(directory, 'stat', 'A:B', path).stdout;
        t.ok(shown.includes(reference(directory, 'stat', '-c', format, path).trimEnd()), `stat ${path}`);
        t.ok(shown.includes(`  ${reference(directory, 'stat', '-c', '%F', path).trim()}\n`), `type of ${path}`);
        const [described] = JSON.parse(run(directory, 'stat', '--json', 'A:B', path).stdout).files;
        const numbers = [
          described.mode,
          described.uid,
          described.gid,
          described.nlink,
          described.size,
          described.mtime,
        ];
        t.equal(
          numbers.join(' '),
          reference(directory, 'stat', '-c', '%04a %u %g %h %s %.9Y', path).trim(),
          `json of ${path}`,
        );
      }
    } finally {
      native.umount(mnt, 0);
    }
  });
});

t.test('paths', { skip: withoutRoot }, async t => {
  withScratch(directory => {
    makeLayers(directory);
    for (const [rule, path, status, want] of [
      ['a file', 'file', 0, 'the top\n'],
      ['from the root', '/file', 0, 'the top\n'],
      ['no name, one dot', './/d/./../file', 0, 'the top\n'],
      ['above the root is the root', '../../file', 0, 'the top\n'],
      ['an absolute symlink stays in the stack', 'absolute/out', 0, 'the top\n'],
      ['a symlink that loops', 'loop', 1, 'lowerdata: loop: Too many levels of symbolic links'],
      ['nothing there', 'nope', 1, 'lowerdata: nope: No such file or directory'],
      ['a whiteout', 'gone', 1, 'lowerdata: gone: No such file or directory'],
      ['through a file', 'file/x', 1, 'lowerdata: file/x: Not a directory'],
      ['a file with a slash', 'file/', 1, 'lowerdata: file/: Not a directory'],
      ['a directory', 'd', 1, 'lowerdata: d: Is a directory'],
      ['a device', 'null', 1, 'lowerdata: null: Invalid argument'],
    ] as const) {
      const result = run(directory, 'cat', 'A:B', path);
      t.same([result.status, result.stdout + result.stderr], [status, want], rule);
    }
    t.same(run(directory, 'cat', 'A:B', 'nope', 'file'), {
      status: 1,
      stdout: 'the top\n',
      stderr: 'lowerdata: nope: No such file or directory',
    });
    t.same(run(directory, 'ls', 'A:nope', '.'), {
      status: 1,
      stdout: '',
      stderr: 'lowerdata: layer nope: No such file or directory',
    });
    t.equal(run(directory, 'ls', 'A:B', '-o', 'frob', '.').stderr, 'lowerdata: option frob: unknown');
    t.equal(run(directory, 'ls', 'x', '.', '-o', 'lowerdir=B:A').status, 0, 'layers in options');
    const bytes = spawnSync('sh', ['-c', `"$0" "$1" cat A:B "$(printf '\\377 raw')"`, process.execPath, lowerdata], {
      cwd: directory,
    });
    t.equal(bytes.stdout.toString(), 'raw', 'a name that is no UTF-8');
  });
});
