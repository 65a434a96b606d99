/** What commands print arrives whole, or the exit status says that it did not. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { lowerdata, packageFolder } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without, withoutRoot } from '../fixtures/skips.ts';

t.setTimeout(300_000); // many processes are started

const launcher = join(packageFolder, 'bin', 'lowerdata');
const BIG_BYTES = 700_000;
const ESCAPE = '\x1b[31m\x07\x7f';

/** A tree with names that are commands to a terminal, and an image of it. */
function fill(directory: string): void {
  mkdirSync(join(directory, 'tree'));
  writeFileSync(join(directory, 'tree', 'big'), Buffer.alloc(BIG_BYTES, 'big\n'));
  writeFileSync(join(directory, 'tree', `n${ESCAPE}`), 'x'.repeat(100));
  symlinkSync(`to${ESCAPE}`, join(directory, 'tree', `l\n${ESCAPE}`));
  const { status, stderr } = runCommand(['mkfs', '--digest-store', 'store', 'tree', 'image'], { directory });
  if (status !== 0) throw new Error(stderr);
}

/** Runs a line of sh; $0 is the command as it is installed, $1 that for node. */
function shell(directory: string, line: string): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync('bash', ['-c', line, launcher, lowerdata], {
    cwd: directory,
    encoding: 'latin1',
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

/** Every command that prints without a mount; the exit status where it cannot, if not 1. */
const printing = [
  ['--help'],
  ['--version'],
  ['mount --help'],
  ['ls tree /'],
  ['cat tree /big'],
  ['stat tree /big'],
  ['explain tree /big'],
  ['info ls image'],
  ['info --json objects image'],
  ['compare --json image tree', 2],
  ['check /nowhere --help', 2],
  ['fsck image::store', 8],
  ['status --json'],
  ['doctor'],
  ['completion bash'],
  ['mkfs tree -'],
  ['mkfs --print-digest-only tree'],
  ['relink --to=data-only image -o -'],
  ['relink --to=data-only image --dry-run'],
] as const;

t.test('a stdout that takes nothing', async t =>
  withScratch(directory => {
    fill(directory);
    for (const [words, want = 1] of printing)
      for (const [rule, target, reason] of [
        ['is full', '>/dev/full', 'No space left on device'],
        ['is closed', '>&-', 'Bad file descriptor'],
      ] as const) {
        const { status, stderr } = shell(directory, `"$0" ${words} ${target}`);
        t.same([status, stderr], [want, `lowerdata: stdout: ${reason}\n`], `${words}: ${rule}`);
      }
    const several = shell(directory, '"$0" cat tree /big /big /big >/dev/full');
    t.equal(several.stderr, 'lowerdata: stdout: No space left on device\n', 'it is told of once');
    for (const words of ['mount --help', 'cat tree /big', 'completion bash'])
      for (const [rule, reader] of [
        ['the first line alone', 'head -n 1 >/dev/null'],
        ['nothing', 'true'],
      ] as const) {
        const { status, stderr } = shell(directory, `"$0" ${words} | ${reader}; exit \${PIPESTATUS[0]}`);
        t.equal(stderr, '', `${words}: who reads ${rule} gets no message`);
        if (words.startsWith('cat')) t.equal(status, 141, `${words}: and the status of SIGPIPE`);
      }
  }),
);

t.test('a file that has no room', async t =>
  withScratch(directory => {
    fill(directory);
    for (const [rule, words] of [
      ['data', 'cat tree /big'],
      ['data, several files', 'cat tree /big /big'],
    ] as const) {
      const line = `trap '' XFSZ; ulimit -f 500; "$0" ${words} >out`; // less than is written at once
      const { status, stderr } = shell(directory, line);
      t.same([status, stderr], [1, 'lowerdata: stdout: File too large\n'], `${rule}: said`);
    }
    writeFileSync(join(directory, 'good'), 'good');
    const limited = shell(directory, `trap '' XFSZ; ulimit -f 1; "$0" mkfs tree good`);
    t.equal(limited.status, 1, 'an image');
    t.match(limited.stderr, /^lowerdata: good: File too large\n$/, 'an image: said');
    t.equal(readFileSync(join(directory, 'good'), 'utf8'), 'good', 'the file that was there stays');
    t.notOk(
      readdirSync(directory).some(name => name.includes('.tmp-')),
      'and nothing is left beside it',
    );
  }),
);

t.test('a filesystem that is nearly full', { skip: withoutRoot }, async t =>
  withScratch(directory => {
    fill(directory);
    mkdirSync(join(directory, 'small'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', join(directory, 'small')]);
    if (mounted.status !== 0) return void t.pass('small', { skip: 'tmpfs cannot be mounted' });
    try {
      const root = '/ 4096 40755 2 0 0 0 0.0 - - -\n';
      const lines = Array.from({ length: 5000 }, (_, i) => `/f${i} 64 100644 1 0 0 0 0.0 - ${'x'.repeat(64)} -\n`);
      writeFileSync(join(directory, 'dump'), root + lines.join(''));
      const { status, stderr } = shell(directory, '"$0" mkfs --from-file dump - >small/image');
      t.same([status, stderr], [1, 'lowerdata: stdout: No space left on device\n'], 'an image on stdout');
      shell(directory, 'rm small/image; echo old >small/image');
      for (const [rule, words] of [
        ['an image', 'mkfs --from-file dump small/image'],
        ['data', 'cat tree /big >small/out; s=$?; rm small/out; (exit $s)'],
        ['a store', 'mkfs --digest-store=small/store tree small/image'],
      ] as const) {
        const result = shell(directory, `"$0" ${words}`);
        t.equal(result.status, 1, rule);
        t.match(result.stderr, /No space left on device/, `${rule}: said`);
        t.equal(readFileSync(join(directory, 'small', 'image'), 'utf8'), 'old\n', `${rule}: what was there stays`);
      }
    } finally {
      spawnSync('umount', [join(directory, 'small')]);
    }
  }),
);

/** Runs a command whose stdout is a pipe that does not block, and which nobody reads for a while. */
const NOT_BLOCKING = `
import os, subprocess, sys, time
reader, writer = os.pipe()
os.set_blocking(writer, False)
child = subprocess.Popen(sys.argv[1:], stdout=writer)
os.close(writer)
time.sleep(1)
count = 0
while data := os.read(reader, 65536): count += len(data)
print(child.wait(), count)
`;

/** Runs a command on a terminal, and prints all that comes from it. */
const ON_TERMINAL = `
import os, pty, sys
pty.spawn(sys.argv[1:], lambda fd: os.read(fd, 65536))
`;

t.test('what stdout is', { skip: without('python3') }, async t =>
  withScratch(directory => {
    fill(directory);
    const python = (program: string, ...words: string[]): string =>
      spawnSync('python3', ['-c', program, process.execPath, lowerdata, ...words], {
        cwd: directory,
        encoding: 'latin1',
        input: '',
        env: { ...process.env, TERM: 'dumb' },
      }).stdout;
    t.equal(python(NOT_BLOCKING, 'cat', 'tree', '/big'), `0 ${BIG_BYTES}\n`, 'a pipe that does not block gets all');
    for (const words of [
      ['ls', 'tree', '/'],
      ['ls', '-l', 'tree', '/'],
      ['ls', '-d', 'tree', `/n${ESCAPE}`],
      ['stat', '--json', 'tree', `/n${ESCAPE}`],
      ['status', '--json'],
      ['stat', 'tree', `/n${ESCAPE}`, `/l\n${ESCAPE}`],
      ['explain', 'tree', `/n${ESCAPE}`],
      ['explain', '--json', 'tree', `/n${ESCAPE}`],
      ['compare', 'store', 'tree'],
      ['check', 'image'],
      ['info', 'ls', 'image'],
      ['info', 'dump', 'image'],
      ['cat', 'tree', `/m${ESCAPE}`],
      ['mkfs', `m${ESCAPE}`, 'other'],
      ['info', 'ls', `m${ESCAPE}`],
      ['mount', `--o${ESCAPE}`],
      [`m${ESCAPE}`],
    ]) {
      const shown = python(ON_TERMINAL, ...words).replaceAll('\r\n', '\n');
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
      t.notMatch(shown, /[\x00-\x08\x0b-\x1f\x7f]/, `${JSON.stringify(words.join(' '))}: no commands for a terminal`);
      t.not(shown, '', 'but something');
    }
    const listed = python(ON_TERMINAL, 'ls', 'tree', '/').replaceAll('\r\n', '\n');
    t.equal(listed, 'big\nl\\x0a\\x1b[31m\\x07\\x7f\nn\\x1b[31m\\x07\\x7f\n', 'a name a line');
    const json = python(ON_TERMINAL, 'stat', '--json', 'tree', '/big');
    t.match(JSON.parse(json), { files: [{ path: '/big' }] }, 'JSON stays JSON');
    const piped = runCommand(['ls', 'tree', '/'], { directory }).stdout;
    t.equal(piped, `big\nl\n${ESCAPE}\nn${ESCAPE}\n`, 'others get the bytes as they are');
    writeFileSync(join(directory, 'tree', 'data'), ESCAPE);
    t.equal(python(ON_TERMINAL, 'cat', 'tree', '/data'), ESCAPE, 'data stays as it is');
  }),
);
