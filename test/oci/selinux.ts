/** Labels of SELinux in images to boot from: by another program's merge, by libselinux, and what is refused. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Fields, member, ociFixtures } from '../fixtures/oci/archives.ts';
import { archiveOf, makeLayout, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

const dir = (name: string): Buffer => member({ name: `${name}/`, type: '5', mode: 0o755 });
const file = (name: string, data: string | Buffer = '', fields: Fields = {}): Buffer =>
  member({ name, ...fields }, data);
const of = (name: string, type: string, linkname = ''): Buffer => member({ name, type, linkname });
const label = (type: string): string => `system_u:object_r:${type}_t:s0`;

/** Types as matchpathcon takes them. */
const TYPES = new Map<number, string>([
  [0o100000, 'f'],
  [0o40000, 'd'],
  [0o120000, 'l'],
  [0o10000, 'p'],
  [0o60000, 'b'],
  [0o20000, 'c'],
]);

const FILES = 'etc/selinux/targeted/contexts/files';
/** What Debian's policy has, cut down, and rules in which details count. It is longer than what an image has itself. */
const CONTEXTS = `# a comment
/[^os].*\t\t${label('default')}
/        -d ${label('root')}
   /usr(/.*)?\t${label('usr')}

/usr/(s)?bin(/.*)?  ${label('bin')}
/usr/s?bin/.*  -l  ${label('link')}
/usr/lib(64|32)?/[^/]+\\.so(\\.[0-9]{1,3})*  --  ${label('lib')}
/usr/a.b  ${label('any_byte')}
/usr/a\\.b  --  ${label('dot')}
/usr/\xc3\xa9t\xc3\xa9  ${label('french')}
/usr/(.*/)?secret(/.*)?  <<none>>
/usr/\\-y|/usr/-x  <<none>>
/dev/[^/]*  -b  ${label('fixed_disk')}
/dev/[^/]*  -c  ${label('device')}
/dev/[a-z]+  -p  ${label('fifo')}
/run  -d  ${label('var_run')}
/boot  -d  ${label('boot')}
/home/[^/]+  -d  ${label('user_home_dir')}
/srv/[^/]*  ${label('of_srv')}
`;

const TREE: readonly Buffer[] = [
  ...[
    dir('usr'),
    dir('usr/bin'),
    dir('usr/sbin'),
    dir('usr/lib'),
    dir('usr/lib64'),
    dir('usr/secret'),
    dir('usr/x'),
    dir('usr/a'),
  ],
  ...[
    dir('boot'),
    file('boot/vmlinuz'),
    dir('sysroot'),
    dir('run'),
    file('run/lock'),
    dir('dev'),
    dir('home'),
    dir('home/u'),
  ],
  ...[file('usr/bin/sh', 'x'), of('usr/bin/ash', '2', 'sh'), file('usr/sbin/init'), of('usr/sbin/no', '2', '/')],
  ...[file('usr/lib64/libc.so.6'), file('usr/lib/libc.so.6666'), file('usr/lib/libc.so'), of('usr/lib/l.so', '2', 'x')],
  ...[
    file('usr/a.b'),
    file('usr/a\nb'),
    file('usr/a/b'),
    file('usr/a b'),
    file('usr/\xc3\xa9t\xc3\xa9'),
    file('usr/\xff'),
  ],
  ...[file('usr/secret/of'), dir('usr/x/secret'), file('usr/-x'), file('usr/-y'), file('usr/-z'), file('usr/.hidden')],
  ...[of('dev/sda', '4'), of('dev/tty', '3'), of('dev/pipe', '6'), of('dev/pipe2', '6'), file('dev/file')],
  ...[dir('srv'), file('srv/a'), dir('opt'), dir('etc'), dir('etc/selinux'), file('etc/fstab', 'x'.repeat(100))],
];
/** The policy, and names that it has labels for by other rules than libselinux has. */
const MORE: readonly Buffer[] = [
  file(`${FILES}/file_contexts.local`, `/usr/bin/sh -- ${label('local')}\n/srv/b ${label('local')}\n`),
  file(`${FILES}/file_contexts.homedirs`, `/srv/b ${label('home')}\r\n/opt/.* ${label('of_opt')}\n`),
  file(`${FILES}/file_contexts.subs`, '/opt/alias /srv\n/opt/two /usr/bin\n'),
  file(`${FILES}/file_contexts.subs_dist`, '# comment\n/opt/two /usr/sbin\n/srv/c /opt/root\n/opt/root/deep /\n'),
  ...[
    dir('opt/alias'),
    file('opt/alias/a'),
    file('opt/alias/b'),
    dir('opt/two'),
    of('opt/two/l', '2', 'x'),
    file('srv/b'),
  ],
  ...[dir('srv/c'), dir('srv/c/deep'), dir('srv/c/deep/usr'), file('srv/c/deep/usr/a.b'), dir('opt/alias/c')],
  // one inode: of its names, the last one in the order of paths counts
  ...[of('opt/sh', '1', 'usr/bin/sh'), of('usr/secret/srv-a', '1', 'srv/a'), of('srv/dot', '1', 'usr/a.b')],
];
const config = (text: string): Buffer => file('etc/selinux/config', text);
const policy = (contexts: string | Buffer): Buffer[] => [
  ...[dir('etc/selinux/targeted'), dir('etc/selinux/targeted/contexts'), dir(FILES)],
  config('# SELINUXTYPE=other\nSELINUX=enforcing\nSelinuxType = targeted \nSELINUXTYPE=third\n'),
  file(`${FILES}/file_contexts`, contexts),
];

t.test('the digest of another merge', { skip: without('python3') }, async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    const digests = new Set<string>();
    for (const [number, layers] of [
      [[...TREE, ...policy(Buffer.from(CONTEXTS, 'latin1'))], MORE],
      [[...TREE, ...policy(Buffer.from(CONTEXTS, 'latin1'))]],
      [TREE, [config('SELINUX=disabled\n')]],
    ].entries()) {
      const archives = layers.map((layer, i) => {
        writeFileSync(at(`layer-${number}-${i}.tar`), archiveOf(...layer));
        return at(`layer-${number}-${i}.tar`);
      });
      makeLayout(at(`layout-${number}`), 'gzip', archives);
      const merge = [join(ociFixtures, 'merge-layers.py'), 'spec,bootable', at('objects'), ...archives];
      writeFileSync(at('dump'), execFileSync('python3', merge));
      const made = runCommand(['mkfs', '--from-file', '--min-version=1', '--print-digest-only', at('dump')]);
      const want = made.stdout.trim();
      digests.add(want);
      const words = ['pull', `oci:${at(`layout-${number}`)}`, '--store', at('store'), '--bootable', '--expect', want];
      t.match(runCommand(words), { status: 0, stderr: '' }, want);
    }
    t.equal(digests.size, 3);
  }),
);

t.test('the labels of libselinux', { skip: without('matchpathcon') }, async t =>
  withScratch(home => {
    const contexts = join(home, 'file_contexts');
    const classes = `/.*  ${label('first')}\n/usr/[[:alnum:]]\\.b  ${label('class')}\n/(opt|srv)/[^a-z/]?\\w{1,2}  ${label('word')}\n`;
    const text = Buffer.from(`${classes}${CONTEXTS.replace(/^.*french.*$/m, '')}`, 'latin1'); // libselinux reads ASCII only;
    writeFileSync(contexts, text);
    const layout = join(home, 'layout');
    writeIndex(layout, [writeImage(layout, [archiveOf(...TREE, ...policy(text))])]);
    const words = ['pull', `oci:${layout}`, '--store', join(home, 'store'), '--name=x', '--bootable'];
    t.match(runCommand(words), { status: 0, stderr: '' });
    const dump = runCommand(['info', 'dump', join(home, 'store/images/refs/x')])
      .stdout.trim()
      .split('\n');
    let labels = 0;
    for (const line of dump) {
      const [path = '', , mode = ''] = line.split(' ');
      const bytes = path.replace(/\\(x([0-9a-f]{2})|n)/g, (_, x, hex) =>
        String.fromCharCode(x === 'n' ? 10 : parseInt(hex, 16)),
      );
      const type = TYPES.get(Number.parseInt(mode, 8) & 0o170000) as string;
      if (bytes.includes('\xff')) continue; // an argument of Node.js is UTF-8
      const options = ['-N', '-n', '-m', type, '-f', contexts, Buffer.from(bytes, 'latin1').toString()];
      const want = execFileSync('matchpathcon', options, { encoding: 'utf8' }).trim();
      t.equal(/ security\.selinux=(\S+)/.exec(line)?.[1] ?? '<<none>>', want, path);
      if (want !== '<<none>>') labels++;
    }
    t.ok(labels > 40, `${labels} labels`);
  }),
);

t.test('what is refused', async t =>
  withScratch(home => {
    const layout = join(home, 'layout');
    const roots = [dir('usr'), dir('boot'), dir('sysroot'), dir('etc')];
    const contexts = `/${FILES}/file_contexts`;
    const subs = file(`${FILES}/file_contexts.subs`, '# three\n\n/a /b /c\n');
    for (const [layer, message, flag] of [
      [[of('etc/selinux', '2', '/usr')], 'in the image, /etc/selinux is not a directory'],
      [[of('etc/selinux/config', '2', '/usr')], 'in the image, /etc/selinux/config is not a regular file'],
      [[config('SELINUXTYPE=')], '/etc/selinux/config: SELINUXTYPE= is not the name of a directory'],
      [[config('SELINUXTYPE=..')], '/etc/selinux/config: SELINUXTYPE=.. is not the name of a directory'],
      [
        [config('SELINUXTYPE=mls')],
        'the image has no directory /etc/selinux/mls/contexts/files, which /etc/selinux/config names',
      ],
      [[config('SELINUXTYPE=targeted'), dir(FILES)], `the image has no file ${contexts}`],
      [policy('/ a\n/usr -x b\n'), `${contexts}, line 2: -x is not a type of file`],
      [policy('/usr\n'), `${contexts}, line 1: not an expression, a type (which may be left out) and a label`],
      [policy('/usr -- b c'), `${contexts}, line 1: not an expression, a type (which may be left out) and a label`],
      [policy('\n\n/(usr a'), `${contexts}, line 3: error parsing regexp`],
      [policy('/(?!usr).* a'), `${contexts}, line 1: error parsing regexp`],
      [
        policy(`/(${'a'.repeat(400)}){900} a\n`.repeat(3)),
        `${contexts}, line 3: the expressions are longer than 1000000`,
      ],
      [policy(Buffer.from('/\xe9 a', 'latin1')), `in the image, ${contexts} is not UTF-8`],
      [policy(Buffer.alloc(5 << 20, '#')), `in the image, ${contexts} has 5242880 bytes; 4194304 are allowed`],
      [policy(`/usr ${'a'.repeat(40000)}`), '/usr: its label: the xattrs need up to 40035 bytes; 32767 are allowed'],
      [[...policy(''), subs], `/${FILES}/file_contexts.subs, line 3: not two paths`],
      [policy(''), 'images of layers cannot have the labels of SELinux', '--layers'],
    ] as const) {
      writeIndex(layout, [writeImage(layout, [archiveOf(...roots, ...layer)])]);
      const words = ['pull', `oci:${layout}`, '--store', join(home, 'store'), '--bootable', ...(flag ? [flag] : [])];
      const refused = runCommand(words);
      t.equal(refused.status, 1, message);
      t.equal(refused.stderr.slice(0, message.length + 11), `lowerdata: ${message}`);
    }
  }),
);
t.end();
