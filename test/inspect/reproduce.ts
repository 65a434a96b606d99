/** Proves src/inspect/reproduce: the script of a path of the corpus has the kernel give the answer that it gave for the case. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { answerOf, asKernel } from '../../src/inspect/reproduce/answer.ts';
import { type Reproduction, reproduce } from '../../src/inspect/reproduce/reproduce.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { type Case, type Fields, materialised, stackOf, unescapeText } from '../fixtures/corpus-stacks.ts';
import { dir, FakeLayer, file, link, meta, whiteout } from '../fixtures/fake-layer.ts';
import { plainOptions, scratch } from '../fixtures/layers.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { python } from '../fixtures/native.ts';
import { withoutFuse, withoutRoot } from '../fixtures/skips.ts';

/** Paths of each case, each with other rules than the ones before. */
const PATHS_MAX = Number(process.env.LOWERDATA_PATHS ?? 4);

const ERRORS: Readonly<Record<string, string>> = {
  'No such file or directory': 'ENOENT',
  'Input/output error': 'EIO',
  'Invalid argument': 'EINVAL',
  'Operation not permitted': 'EPERM',
  'Permission denied': 'EACCES',
  'File name too long': 'ENAMETOOLONG',
  'Not a directory': 'ENOTDIR',
  'Too many levels of symbolic links': 'ELOOP',
  'Invalid cross-device link': 'EXDEV',
  'Numerical result out of range': 'ERANGE',
};
const errorOf = (line = ''): string | undefined => ERRORS[/: ([^:]*)$/.exec(line)?.[1] ?? ''];
const TYPES: Readonly<Record<string, string>> = {
  'regular file': 'reg',
  'regular empty file': 'reg',
  directory: 'dir',
  'symbolic link': 'symlink',
  'character special file': 'chr',
  'block special file': 'blk',
  fifo: 'fifo',
  socket: 'sock',
};

/** What a script printed of one mount: a type with the layers of a directory or of the data, or an errno. */
interface Shown {
  what: string;
  data?: string;
}

function shown(output: string, { layers }: Reproduction): Shown {
  const lines = output.split('\n');
  const stat = lines.find(line => line.startsWith('stat:'));
  const type = TYPES[stat?.slice('stat: '.length) ?? ''];
  if (type === undefined) return { what: errorOf(stat) ?? `${output}?` };
  const of = (name: string): string => layers.find(layer => layer.name === name)?.of ?? '?';
  const rest = (prefix: string): string[] =>
    lines.filter(line => line.startsWith(prefix)).map(line => line.slice(prefix.length));
  if (type === 'dir') return { what: type, data: rest('ls: in-').map(of).sort().join() };
  const [cat] = rest('cat: ');
  if (type !== 'reg' || cat === undefined) return { what: type };
  return { what: type, data: errorOf(cat) ?? (cat === '0' ? 'origin' : of(cat)) };
}

/** What the kernel showed of the case, and the layers that lookup names for it. */
function recorded(record: Fields | undefined, overlay: Overlay, path: string): Shown {
  if (!record) return { what: 'ENOENT' };
  if (record.lookup_errno) return { what: String(record.lookup_errno) };
  const { node, data } = answerOf(overlay, path === '.' ? [] : path.split('/'));
  const what = String(record.type);
  if (what === 'dir')
    return {
      what,
      data: (node?.stack ?? [])
        .map(({ layer }) => layer.path)
        .sort()
        .join(),
    };
  const error = record.open_errno ?? record.read_errno;
  if (what !== 'reg') return { what };
  if (error) return { what, data: String(error) };
  return node?.top.sizeBytes === 0 || record.content === ''
    ? { what }
    : { what, data: data.replace(', to be checked', '') };
}

const run = (script: string, directory: string, PATH = process.env.PATH): string => {
  const { stdout, stderr, status } = spawnSync('sh', ['-s'], {
    input: script,
    encoding: 'utf8',
    env: { PATH, TMPDIR: directory },
  });
  return status === 0 ? stdout : `${stdout}${stderr}status ${status}`;
};

t.test('the corpus', { skip: withoutRoot, timeout: 1_200_000 }, async t => {
  const home = process.cwd();
  t.teardown(() => process.chdir(home));
  const work = scratch(t);
  const withPath = join(work, 'bin');
  mkdirSync(withPath);
  writeFileSync(join(withPath, 'lowerdata'), `#!/bin/sh\nexec ${process.execPath} ${lowerdata} "$@"\n`);
  chmodSync(join(withPath, 'lowerdata'), 0o755);
  let count = 0;
  for (const { name, base, case: one, probes } of materialised(t) as (Case & {
    case: { kernel_expect?: Case['case']['expect'] };
  })[]) {
    const kernelExpects = one.proposed ? one.kernel_expect : one.expect;
    if (!kernelExpects?.tree || one.expect.mount_errno) continue;
    process.chdir(base);
    const overlay = stackOf(one.stack, one.proposed ? 'lowerdata' : 'kernel');
    const seen = new Set<string>();
    for (const path of new Set([...probes, ...Object.keys(kernelExpects.tree)])) {
      const above = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.';
      if (kernelExpects.tree[above]?.type !== 'dir' || one.soft_paths?.includes(path)) continue;
      const raw = unescapeText(path);
      const names = raw === '.' ? [] : raw.split('/');
      const kind = JSON.stringify([answerOf(asKernel(overlay), names), answerOf(overlay, names)], (key, value) =>
        key === 'node' ? undefined : value,
      );
      if (seen.has(kind) || seen.size >= PATHS_MAX) continue;
      seen.add(kind);
      const made = reproduce(overlay, `/${raw}`);
      const isProposed = made.script.includes('lowerdata mount');
      const [, kernel = '', ours = ''] = run(
        made.script,
        work,
        isProposed && !withoutFuse ? `${withPath}:${process.env.PATH}` : undefined,
      ).split(/^# .*\n/m);
      count++;
      t.strictSame(shown(kernel, made), recorded(kernelExpects.tree[path], asKernel(overlay), raw), `${name} ${path}`, {
        script: made.script,
      });
      if (!isProposed || withoutFuse || !one.proposed) continue;
      const expected = recorded(one.expect.tree?.[path], overlay, raw);
      t.strictSame(shown(ours, made), expected, `${name} ${path}, lowerdata`, { script: made.script });
    }
    overlay.close();
  }
  t.comment(`${count} scripts`);
  t.ok(count > 300, 'a good number of paths');
});

const overlayOf = (normal: Parameters<typeof dir>[0][], data: Parameters<typeof dir>[0][] = []): Overlay =>
  new Overlay(
    normal.map((entries, i) => new FakeLayer(`normal ${i}`, dir(entries))),
    data.map((entries, i) => new FakeLayer(`data ${i}`, dir(entries))),
    plainOptions,
  );

/** The commands of a script that make its layers. */
const making = ({ script }: Reproduction): string[] =>
  script.slice(script.lastIndexOf('\n}\n')).split('\n\n')[1]?.split('\n') ?? [];

t.test('only what the answer needs is left', async t => {
  const noise = { other: file(), sub: dir({ x: file() }, { opaque: 'x' }) };
  for (const [rule, overlay, path, want] of [
    [
      'what lookup does not visit',
      overlayOf([noise, { f: file('f', { redirect: 'no' }) }, noise]),
      '/f',
      ['mkdir A', 'mkdir B', 'echo B >B/a'],
    ],
    [
      'layers that have nothing',
      overlayOf([{}, noise, { f: whiteout }, {}, { f: file() }]),
      '/f',
      ['mkdir A', 'mkdir B', 'mknod B/a c 0 0'],
    ],
    [
      'directories on the way and symlinks; one directory stays, because R6 is not for the root',
      overlayOf(
        [
          { usr: dir({ share: dir({ f: meta({ redirect: '/objects/x', origin: 'o' }) }) }), link: link('usr/share') },
          noise,
        ],
        [{}, { objects: dir({ x: file() }) }],
      ),
      '/link/f',
      [
        'mkdir A',
        'mkdir A/a',
        ': >A/a/b',
        "xattr trusted.overlay.metacopy '' A/a/b",
        'xattr trusted.overlay.redirect 2f632f64 A/a/b',
        'mkdir B',
        'mkdir B/c',
        'echo B >B/c/d',
      ],
    ],
    [
      'an opaque directory, and the layer below that makes it one',
      overlayOf([{ d: dir({}, { opaque: 'y' }) }, { d: dir() }, noise]),
      '/d',
      ['mkdir A', 'mkdir A/a', 'xattr trusted.overlay.opaque 79 A/a', ': >A/a/in-A', 'mkdir B'],
    ],
  ] as const)
    t.strictSame(making(reproduce(overlay, path)), want, rule);
});

t.test('nothing of a layer gets into the script as text', async t => {
  const evil = '$(touch pwned)`id`\';\n"|\xff\\';
  const target = `/${evil}/${evil}${'n'.repeat(300)}`;
  for (const [path, layers] of [
    [`/${evil}`, [{ [evil]: file(evil, { metacopy: evil, redirect: target, [evil]: evil }) }, { [evil]: dir() }]],
    [`/${evil}`, [{ [evil]: file(evil, { metacopy: 'ab' }) }, {}]],
    [`/${evil}/${evil}`, [{ [evil]: dir({ [evil]: whiteout }, { redirect: `a/${evil}` }) }, { [evil]: dir() }]],
    [`/${evil}/x`, [{ [evil]: link(evil) }, {}]],
  ] as const) {
    const overlay = overlayOf(layers.map(layer => layer as Parameters<typeof dir>[0]));
    try {
      const { script } = reproduce(overlay, path);
      t.notMatch(script, /pwned|`id`|\$\(touch/, 'no name and no value');
      t.match(script, /^[\n -~]*$/, 'printable ASCII alone');
    } catch (error) {
      t.match(error, { name: 'ELOOP' });
    }
  }
});

t.test('without setfattr, and errors', { skip: withoutRoot }, async t => {
  const work = scratch(t);
  const programs = [
    'sh',
    'mktemp',
    'mkdir',
    'mount',
    'umount',
    'stat',
    'cat',
    'sed',
    'id',
    'uname',
    'rm',
    'ls',
    'mknod',
  ];
  symlinkSync(python(`import sys; print(sys.executable)`, []).trim(), join(work, 'python3'));
  for (const name of programs) {
    const at = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim();
    symlinkSync(at, join(work, name));
  }
  const made = reproduce(overlayOf([{ f: meta({ redirect: '/x' }) }, { x: file('data') }]), '/f');
  t.strictSame(shown(run(made.script, work, work), made), { what: 'reg', data: 'normal 1' }, 'python3 sets the xattrs');
  t.throws(
    () => reproduce(overlayOf([{ a: link('b'), b: link('a') }, {}]), '/a/x'),
    { name: 'ELOOP' },
    'a loop of symlinks',
  );
  t.match(run('exit 1', work), 'status 1');
  const failing = run(made.script.replace('mknod', 'false').replace(/^mkdir B$/m, 'false'), work);
  t.match(failing, 'status 1', 'a command that fails ends the script');
  t.strictSame(
    readdirSync(work).filter(name => name.startsWith('overlay.')),
    [],
    'which cleans up',
  );
});
t.end();
