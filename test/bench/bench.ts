/** Proves src/cli/bench*.ts: that all is measured that was asked for, and that nothing is left. Times themselves prove nothing. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { benchNames } from '../../src/bench/names.ts';
import type { BenchReport, BenchRow } from '../../src/bench/report.ts';
import { WORKLOADS } from '../../src/bench/workloads.ts';
import { LAYOUT_FLAT_PLAIN } from '../../src/erofs/format.ts';
import { readMounts } from '../../src/fuse/mountinfo.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { craft } from '../fixtures/images/craft.ts';
import { optionsOf } from '../fixtures/layers.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { noErofs } from '../fixtures/mounts/kernel-mount.ts';
import { command, lowerdata } from '../fixtures/mounts/mounted.ts';
import { python } from '../fixtures/native.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65_534;
const DIRECTORIES = 7; // the root, and each of the others
const FILES = 60;
const SMALL = 40;
const LARGE_BYTES = 5_000_000;
/** A program that the stack holds: how it is named, what it has to be called with, and how it ends. */
const PROGRAM = '#!/bin/sh\n[ "$1 $2" = "-e 0" ] && exit 0\n';

/** A tree as an image with its objects, and an empty directory for what the command makes. */
interface Home {
  readonly stack: string;
  readonly temporary: string;
  readonly env: { TMPDIR: string; XDG_RUNTIME_DIR: string };
}

async function withImage(use: (home: Home) => Promise<void>): Promise<void> {
  await withScratchAsync(async scratch => {
    const [tree, image, objects, temporary] = ['tree', 'image', 'objects', "it's temporary"].map(name =>
      join(scratch, name),
    );
    for (let i = 1; i < DIRECTORIES; i++) mkdirSync(`${tree}/d${i % 3}/d${i}`, { recursive: true });
    for (let i = 0; i < FILES; i++) writeFileSync(`${tree}/d${i % 3}/f${i}`, `${i}`.repeat(i < SMALL ? 500 : 20_000));
    writeFileSync(`${tree}/large`, Buffer.alloc(LARGE_BYTES, 'large '));
    writeFileSync(`${tree}/d0/node`, PROGRAM, { mode: 0o755 });
    writeFileSync(`${tree}/d0/python3`, PROGRAM, { mode: 0o755 });
    command('mkfs', `--digest-store=${objects}`, tree as string, image as string);
    mkdirSync(temporary as string);
    chownSync(temporary as string, NOBODY, NOBODY);
    chmodSync(scratch, 0o755);
    const env = { TMPDIR: temporary as string, XDG_RUNTIME_DIR: temporary as string };
    await use({ stack: `${image}::${objects}`, temporary: temporary as string, env });
  });
}

/** What is mounted for a bench, or was made by it. */
const leftBy = ({ temporary }: Home): string[] => [
  ...readMounts().flatMap(({ path }) => (path.startsWith(temporary) ? [path] : [])),
  ...readdirSync(temporary).filter(name => name !== 'lowerdata'), // where states of mounts are noted
];

const isOrdered = ({ microseconds: { p50, p99, max } }: BenchRow): boolean => p50 > 0 && p50 <= p99 && p99 <= max;
const peer = (name: string, flags: string): string =>
  `${name}=${process.execPath} ${lowerdata} mount ${flags} {image}::{objects} {mnt}`;
const BROKEN = 'broken=echo no such thing >&2; exit 3; {mnt}';

const NAMES = DIRECTORIES + 2 + FILES + 3;
/** Names in the tree; whole parts of the large file of so many bytes; and what is a fixed number. */
const OPERATIONS: Readonly<Record<string, number>> = {
  walk: DIRECTORIES + 3,
  stat: NAMES,
  miss: NAMES,
  open: SMALL + 2,
  read: SMALL + 2,
  sequential: Math.floor(LARGE_BYTES / 131_072),
  random: 4096,
  mmap: Math.floor(LARGE_BYTES / 4096),
  node: 16,
};
const operationsOf = (workload: string): number | undefined => OPERATIONS[workload.replace('-again', '')];
const isData = (workload: string): boolean => /^(sequential|random|mmap)/.test(workload);

t.test('targets and workloads', { skip: withoutFuse, timeout: 120_000 }, async t => {
  await withImage(async home => {
    const peers = [BROKEN, peer('same', ''), peer('front', '-f')].flatMap(text => ['--peer', text]);
    const kernel = noErofs() === undefined;
    const builtIn = kernel ? 'lowerdata,kernel' : 'lowerdata';
    const more = ['--with', 'plain=passthrough=off', '--targets', builtIn];
    const args = ['--rounds', '1', '--clients', '1,2', '--json', ...peers, ...more];
    const result = runCommand(['bench', home.stack, ...args], { env: home.env });
    t.equal(result.stderr, '');
    t.equal(result.status, 1, 'one of the targets has failed');
    const report = JSON.parse(result.stdout) as BenchReport;
    t.match(report, { bench: 'lookup', rounds: 1, entries: NAMES, directories: DIRECTORIES + 3 });
    const measured = [...builtIn.split(','), 'plain', 'same', 'front'];
    const workloads = WORKLOADS.filter(({ name, writes }) => !writes && !name.startsWith('python3')).map(
      ({ name }) => name,
    );
    t.strictSame(
      report.rows.map(({ workload, clients, target }) => [workload, clients, target]),
      workloads.flatMap(name =>
        [1, 2].flatMap(clients => [...measured, ...(isData(name) ? ['object'] : [])].map(one => [name, clients, one])),
      ),
      'each workload with each target and each number of clients, and the object where its bytes are read',
    );
    for (const row of report.rows) checkRow(t, row);
    t.ok(
      report.notes.includes('python3 is left out: start d0/python3: it did not end with status 0.'),
      'a program that is no use is left out, with the reason',
    );
    t.match(report.large, { path: 'large', sizeBytes: LARGE_BYTES });
    t.equal(statSync(String(report.large?.object)).size, LARGE_BYTES, 'the object is the file with the data');
    t.strictSame(
      report.targets.filter(({ error }) => error !== undefined),
      [{ name: 'broken', error: 'exit status 3: no such thing' }],
      'a target that does not mount is named with its message',
    );
    for (const { name, server } of report.targets)
      if (['lowerdata', 'plain', 'same', 'front'].includes(name))
        t.ok((server?.peakBytes ?? 0) > 1e7, `${name}: what the server has used`);
      else t.equal(server, undefined, `${name}: there is no server`);
    t.strictSame(leftBy(home), [], 'nothing is left');
  });
});

/** What holds for any row of one round: counts are known, times are times. */
function checkRow(t: Test, row: BenchRow): void {
  const name = `${row.workload} ${row.clients} ${row.target}`;
  t.equal(row.operations, operationsOf(row.workload), `${name}: so many operations`);
  t.ok(isOrdered(row) && row.seconds > 0, `${name}: times are times`);
  t.strictSame(row.roundMicroseconds, [row.microseconds.p50], `${name}: the median of one round`);
  t.ok(Number(row.ratio.p50) > 0 && Number(row.ratio.seconds) > 0, `${name}: ratios to the first target`);
  if (row.target === 'lowerdata') t.strictSame(row.ratio, { p50: 1, seconds: 1 });
  t.equal(row.ofObject !== null, isData(row.workload), `${name}: the object, for its bytes`);
  if (row.target === 'object') t.strictSame(row.ofObject, { p50: 1, seconds: 1 });
  t.equal(row.megabytesPerSecond !== null, isData(row.workload), `${name}: a speed, for bytes`);
  const counted = row.histogram.reduce((sum, [, count]) => sum + count, 0);
  t.equal(counted, row.operations, `${name}: each operation is in the histogram`);
  const below = row.histogram.findLast(([from]) => from <= row.microseconds.max * 1.001);
  t.equal(below, row.histogram.at(-1), `${name}: the longest one is in the last bucket`);
}

/** The lines of a script, which is given the two directories of a mount, each time that it mounts. */
const changesOf = (log: string): string[] => readFileSync(log, 'utf8').trim().split('\n');

t.test('workloads that change files', { skip: withoutFuse, timeout: 120_000 }, async t => {
  await withImage(async home => {
    const kernel = noErofs() === undefined;
    const builtIn = kernel ? 'lowerdata,kernel' : 'lowerdata';
    const log = join(home.temporary, 'log');
    const count = 'find {upper} -type f | wc -l; find {upper} -name ".lowerdata-bench-*" | wc -l';
    const mount = `${process.execPath} ${lowerdata} mount -f -o upperdir={upper},workdir={work}`;
    const watched = `watched=${mount} {image}::{objects} {mnt}; (${count}) | xargs >> '${log.replaceAll("'", "'\\''")}'`;
    const writing = WORKLOADS.filter(({ writes }) => writes).map(({ name }) => name);
    const args = ['--rounds', '1', '--json', '--targets', builtIn, '--workloads', ['stat', ...writing].join(',')];
    const result = runCommand(['bench', home.stack, ...args, '--peer', watched, '--peer', peer('reads', '')], {
      env: home.env,
    });
    t.match(result, { status: 0, stderr: '' });
    const { rows, notes } = JSON.parse(result.stdout) as BenchReport;
    t.strictSame(
      rows.map(({ workload, target, operations }) => [workload, target, operations]),
      [['stat', NAMES], ...writing.map(name => [name, name === 'write' ? 256 : SMALL + 2])].flatMap(([name, n]) =>
        [...builtIn.split(','), 'watched'].map(target => [name, target, n]),
      ),
      'each with each target that can write',
    );
    t.ok(notes.includes('reads is left out: its command has no {upper}, and files are changed.'));
    t.strictSame(
      changesOf(log),
      ['0 0', '0 0', '0 0', '1 1', `${SMALL + 2} 0`, `${SMALL + 2} 0`, '0 0'],
      'each group has directories of its own, and changes what it says',
    );
    rmSync(log);
    t.strictSame(leftBy(home), [], 'nothing is left');
    const refused = runCommand(['bench', home.stack, '--workloads', 'chmod', '-o', 'upperdir=/u,workdir=/w']);
    t.match(refused, { status: 1, stderr: /upperdir: directories for changes are made for each mount/ });
  });
});

/** The texts of a picture, as another XML parser reads them. */
function textsIn(svg: string): string[] {
  const program =
    'import sys, xml.etree.ElementTree as e; [print(*t.itertext(), sep="") for t in e.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}text")]';
  return Buffer.from(python(program, [svg]), 'latin1')
    .toString()
    .split('\n');
}

t.test('for people', { skip: withoutFuse, timeout: 120_000 }, async t => {
  await withImage(async home => {
    const svg = join(home.temporary, 'a picture.svg');
    const args = [
      '--svg',
      svg,
      '--rounds',
      '2',
      '--workloads',
      'read,stat-again,mmap,node',
      '--targets',
      'lowerdata',
      '--peer',
      BROKEN,
    ];
    const { stdout, status } = runCommand(['bench', home.stack, ...args, '-o', 'verity=off'], { env: home.env });
    const lines = stdout.split('\n');
    t.equal(status, 1);
    t.match(lines[0], /^workload +clients +target +p50 /);
    t.match(lines[1], /^stat-again +1 lowerdata( +[\d.]+){6}$/);
    t.match(lines[2], /^read +1 lowerdata( +[\d.]+){6}$/, 'some workloads, in their own order');
    t.match(lines[4], /^workload +clients +target +MB\/s +p50 .* of object$/, 'bytes have another table');
    t.match(lines[6], /^ +object( +[\d.]+){5} +1\.00$/, 'the object itself is in it');
    t.match(lines[9], /^node +1 lowerdata( +[\d.]+){6}$/, 'and programs a third one');
    t.ok(lines.includes('large file: large, 5.0 MB of it'));
    t.ok(lines.some(line => line.startsWith('object: /')));
    t.ok(lines.includes('broken: failed: exit status 3: no such thing'));
    t.ok(
      lines.every(line => line.length <= 100 || line.startsWith('object: /')),
      'within 100 columns, but for a path',
    );
    const words = textsIn(svg);
    for (const word of ['read', 'stat-again', 'mmap', 'node', 'lowerdata', 'object', '1 ms', '1×'])
      t.ok(words.includes(word), `the picture shows ${word}`);
    t.notOk(words.includes('broken'), 'and nothing of what was not measured');
    rmSync(svg);
    t.strictSame(leftBy(home), [], 'nothing is left');
  });
});

t.test('directories', { skip: withoutFuse || without('fuse-overlayfs'), timeout: 120_000 }, async t => {
  await withScratchAsync(async scratch => {
    for (const name of ['a', 'b']) {
      mkdirSync(join(scratch, name));
      writeFileSync(join(scratch, name, name), 'x');
    }
    const bench = (stack: string, ...more: string[]) =>
      runCommand(['bench', stack, '--rounds', '1', '--json', ...more], { env: { TMPDIR: scratch } });
    const stack = `${scratch}/a:${scratch}/b`;
    const result = bench(stack, '--targets', 'lowerdata,fuse-overlayfs');
    t.match(result, { status: 0, stderr: '' });
    const { rows, targets, notes } = JSON.parse(result.stdout) as BenchReport;
    t.strictSame(
      rows.flatMap(({ workload, target }) => (workload === 'read' ? target : [])),
      ['lowerdata', 'fuse-overlayfs'],
    );
    t.ok((targets[1]?.server?.peakBytes ?? 0) > 1e5, 'what fuse-overlayfs has used');
    t.match(notes[0], /^sequential, random and mmap are left out: the stack has no file of 4 MiB/);
    for (const [rule, more, message] of [
      ['a small file is not a large one', ['--large', 'a'], /--large a: not a file of 4194304 bytes or more/],
      ['nothing to do', ['--workloads', 'mmap'], /mmap are left out/],
      ['nobody to do it', ['--targets', 'fuse-overlayfs', '-o', `basedir=${scratch}/b`], /it has no data-only layers/],
    ] as const)
      t.match(
        bench(rule === 'nobody to do it' ? `${scratch}/a` : stack, ...more),
        { status: 1, stderr: message },
        rule,
      );
  });
});

t.test('clients who are another user', { skip: withoutFuse, timeout: 120_000 }, async t => {
  await withScratchAsync(async scratch => {
    chmodSync(scratch, 0o711);
    for (const name of ['a/open', 'a/shut', 'b', 'tmp']) mkdirSync(join(scratch, name), { recursive: true });
    for (const name of ['open', 'shut']) writeFileSync(join(scratch, 'a', name, 'file'), 'x');
    chmodSync(join(scratch, 'a/shut'), 0o700);
    const bench = (...more: string[]) => {
      const args = ['--rounds', '1', '--json', '--targets', 'lowerdata', '--workloads', 'stat', ...more];
      const { stdout, ...rest } = runCommand(['bench', `${scratch}/a:${scratch}/b`, ...args], {
        env: { TMPDIR: join(scratch, 'tmp') },
      });
      return { ...rest, report: JSON.parse(stdout) as BenchReport };
    };
    t.equal(bench().status, 0, 'root may look everywhere');
    const shut = bench('--as', `${NOBODY}:${NOBODY}`);
    t.equal(shut.status, 1);
    t.match(shut.report.targets[0]?.error, /^stat shut\/file: Permission denied$/, 'another user may not');
    chmodSync(join(scratch, 'a/shut'), 0o711);
    const { status, report } = bench('--as', `${NOBODY}`, '--load', '2');
    t.equal(status, 0);
    t.ok(report.notes.includes('Threads that kept CPUs busy meanwhile: 2.'), 'the report tells of other work');
    t.ok(report.notes.includes(`Clients are user ${NOBODY} of group ${NOBODY}.`), 'the report says who asked');
    t.strictSame(
      readdirSync(join(scratch, 'tmp')).filter(name => name !== 'lowerdata'),
      [],
      'nothing is left',
    );
  });
});

t.test('a peer that leaves a file behind', { skip: withoutFuse, timeout: 120_000 }, async t => {
  await withImage(async home => {
    const args = [
      '--rounds',
      '1',
      '--workloads',
      'stat-again',
      '--targets',
      'lowerdata',
      '--peer',
      'messy=touch {mnt}/x; exit 4',
    ];
    const { stdout, stderr, status } = runCommand(['bench', home.stack, ...args], { env: home.env });
    t.equal(status, 1);
    t.match(stdout, /^stat-again +1 lowerdata/m, 'the others are still measured');
    t.match(stdout, /^messy: failed: exit status 4/m, 'its own message is kept');
    t.match(stderr, /\/messy could not be removed: ENOTEMPTY/, 'what cannot be removed is named');
    t.strictSame(
      leftBy(home).filter(path => path.startsWith('/')),
      [],
      'and nothing is mounted',
    );
  });
});

t.test('a directory that is in itself is walked once', async t => {
  const directory = { mode: S_IFDIR | 0o755, layout: LAYOUT_FLAT_PLAIN, extended: true } as const;
  const file = { mode: S_IFREG | 0o644, layout: LAYOUT_FLAT_PLAIN };
  const inner = [['file', 2, 1] as const, ['inner', 1, 2] as const, ['root', 0, 2] as const];
  const entries = [['inner', 1, 2] as const];
  const bytes = craft({ blockBits: 12, inodes: [{ ...directory, entries }, { ...directory, entries: inner }, file] });
  withScratch(home => {
    writeFileSync(`${home}/image`, bytes);
    const { directories, any } = benchNames(optionsOf(`${home}/image`), 1);
    t.strictSame(
      [directories, [...any].sort()],
      [
        ['.', 'inner'],
        ['inner', 'inner/file'],
      ],
    );
  });
});

t.test('wrong calls', async t => {
  for (const [rule, args, message] of [
    ['an unknown workload', ['--workloads', 'walk,run'], /--workloads: run: not one of walk, stat, /],
    ['no rounds', ['--rounds', '0'], /--rounds=0: 1 to 1000/],
    ['clients that are none', ['--clients', '1,x'], /--clients=x: 1 to 64/],
    ['work beside it that is none', ['--load', 'x'], /--load=x: 0 to 1024/],
    ['a peer without a name', ['--peer', 'mount {mnt}'], /--peer mount \{mnt\}: not name=command with \{mnt\} in it/],
    ['a peer without a place', ['--peer', 'x=true'], /--peer x=true: not name=command/],
    ['two targets of one name', ['--peer', 'x={mnt}', '--with', 'x=debug'], /x: two targets of this name/],
    ['a name that is taken', ['--peer', 'object={mnt}'], /object: two targets of this name/],
    ['an unknown target', ['--targets', 'lowerdata,x'], /--targets: x: not one of lowerdata, kernel, /],
    ['no target', ['--targets', ''], /nothing to measure/],
    ['a variant without options', ['--with', 'x='], /--with x=: not name=options/],
    ['a variant with an option that is none', ['--with', 'x=-o y'], /option y: unknown/],
    ['no user', ['--as', 'nobody'], /--as nobody: not UID or UID:GID/],
    ['no stack', [], /\/nonexistent: No such file or directory/],
  ] as const)
    t.match(runCommand(['bench', '/nonexistent', ...args]), { status: 1, stdout: '', stderr: message }, rule);
});

t.test('signals', { skip: withoutFuse, timeout: 120_000 }, async t => {
  for (const [rule, signal, status, args, isBusy] of [
    ['while it measures', 'SIGINT', 130, [], (home: Home) => leftBy(home).length > 2],
    ['while a peer does not mount', 'SIGTERM', 143, ['--peer', 'never=exec sleep 60; {mnt}'], stuck],
  ] as const)
    await withImage(async home => {
      const child = spawn(process.execPath, [lowerdata, 'bench', home.stack, '--rounds', '900', ...args], {
        env: { ...process.env, ...home.env },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const closed = once(child, 'close');
      let log = '';
      child.stderr?.setEncoding('utf8').on('data', piece => {
        log += piece;
      });
      t.ok(await soon(() => isBusy(home)), `${rule}: it is at work`);
      child.kill(signal);
      t.strictSame((await closed)[0], status, `${rule}: it ends with the signal's status`);
      t.equal(log, `lowerdata: ${signal}: ended before everything was measured\n`);
      t.strictSame(leftBy(home), [], `${rule}: nothing is left`);
    });
});

/** Whether the peer that never mounts has begun. */
function stuck({ temporary }: Home): boolean {
  const [bench = 'x'] = readdirSync(temporary).filter(name => name !== 'lowerdata');
  try {
    return readdirSync(join(temporary, bench, 'never')).includes('log');
  } catch {
    return false; // other targets come first
  }
}

t.test('as an ordinary user', { skip: withoutUserMounts, timeout: 120_000 }, async t => {
  await withImage(async home => {
    const args = [lowerdata, 'bench', home.stack, '--rounds', '1', '--json', '--workloads', 'walk,read,random'];
    const options = { uid: NOBODY, gid: NOBODY, env: { ...process.env, ...home.env }, encoding: 'utf8' } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, args, options);
    t.equal(stderr, '');
    t.equal(status, 0);
    const report = JSON.parse(stdout) as BenchReport;
    t.strictSame(
      report.rows.map(({ workload, target }) => [workload, target]),
      [
        ['walk', 'lowerdata'],
        ['read', 'lowerdata'],
        ['random', 'lowerdata'],
        ['random', 'object'],
      ],
    );
    t.ok(report.rows.every(isOrdered), 'times are times');
    t.match(report.notes, [
      /^kernel is left out: .* root/,
      /^fuse-overlayfs is left out: .* directories/,
      /only root can drop/,
    ]);
    t.strictSame(leftBy(home), [], 'nothing is left');
  });
});
