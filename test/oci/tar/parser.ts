/**
 * The reader of tar archives: what GNU tar and python's tarfile write is read as python's tarfile reads it, in pieces of any size,
 * and malformed archives are refused with the entry and the place.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { bufferOf } from '../../../src/sys/bytes.ts';
import { attempt, ErrnoError } from '../../../src/sys/errno.ts';
import {
  END,
  type Fields,
  headerBlock,
  type Listed,
  listArchive,
  member,
  ociFixtures,
  paxHeader,
  record,
} from '../../fixtures/oci/archives.ts';
import { withScratch } from '../../fixtures/scratch.ts';
import { without } from '../../fixtures/skips.ts';

const python = (program: string, ...args: string[]): string =>
  execFileSync('python3', [join(ociFixtures, program), ...args], { encoding: 'utf8', maxBuffer: 1 << 26 });

/** What python finds in an archive. */
const found = (archive: string): Listed[] =>
  python('list-archive.py', archive)
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Listed);

const PIECES = [1, 7, 511, 512, 513, 10_240, 1 << 20];
const PIECES_MAX = 300_000;

/** Compares the parser with python, by pieces of several sizes. */
function compare(t: Test, archive: string, rule: string): void {
  const want = found(archive);
  const bytes = readFileSync(archive);
  t.ok(want.length > 3, `${rule}: ${want.length} entries`);
  const pieces = PIECES.filter(piece => bytes.length / piece < PIECES_MAX);
  for (const piece of pieces) t.strictSame(listArchive(bytes, piece), want, `${rule}, ${piece} bytes at a time`);
}

t.test("archives of python's tarfile", { skip: without('python3') }, async t => {
  for (const format of ['ustar', 'gnu', 'pax'])
    withScratch(home => {
      const archive = join(home, 'archive');
      python('make-archive.py', format, archive);
      compare(t, archive, format);
    });
});

/** A tree with all that an ordinary user can make. */
function makeTree(tree: string): void {
  mkdirSync(join(tree, 'd'.repeat(90), 'e'.repeat(90)), { recursive: true });
  writeFileSync(join(tree, 'd'.repeat(90), 'e'.repeat(90), 'deep'), 'deep');
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe, 0x0a])]), 'bytes');
  writeFileSync(join(tree, 'setuid'), 'x'.repeat(3000));
  chmodSync(join(tree, 'setuid'), 0o6755);
  linkSync(join(tree, 'setuid'), join(tree, 'twice'));
  symlinkSync('t'.repeat(200), join(tree, 'symlink'));
  writeFileSync(join(tree, 'old'), 'old');
  utimesSync(join(tree, 'old'), -1.5, -1.5);
  const fd = openSync(join(tree, 'sparse'), 'w');
  for (let i = 0; i < 60; i++) writeSync(fd, `segment ${i}`, i * 20_000 + 12_288);
  closeSync(fd);
  truncateSync(join(tree, 'sparse'), 2_000_000);
  writeFileSync(join(tree, 'hole'), '');
  truncateSync(join(tree, 'hole'), 100_000);
}

const FORMATS: readonly (readonly [rule: string, ...options: string[]])[] = [
  ['GNU tar: v7', '--format=v7', '--exclude=d*', '--exclude=symlink', '--exclude=old'],
  ['GNU tar: ustar', '--format=ustar', '--exclude=symlink', '--exclude=old'],
  ['GNU tar: oldgnu', '--format=oldgnu'],
  ['GNU tar: oldgnu, sparse', '--format=oldgnu', '-S'],
  ['GNU tar: gnu', '--format=gnu'],
  ['GNU tar: gnu, sparse', '--format=gnu', '-S'],
  ['GNU tar: pax', '--format=posix'],
  ['GNU tar: pax, sparse 0.0', '--format=posix', '-S', '--sparse-version=0.0'],
  ['GNU tar: pax, sparse 0.1', '--format=posix', '-S', '--sparse-version=0.1'],
  ['GNU tar: pax, sparse 1.0', '--format=posix', '-S', '--sparse-version=1.0'],
  ['GNU tar: absolute names', '--format=gnu', '-P', '--transform=s,^\\.,/root,'],
];

t.test('archives of GNU tar', { skip: without('tar') || without('python3') }, async t => {
  withScratch(home => {
    const tree = join(home, 'tree');
    makeTree(tree);
    for (const [rule, ...options] of FORMATS) {
      const archive = join(home, 'archive');
      execFileSync('tar', ['-C', tree, ...options, '-cf', archive, '.'], { stdio: 'pipe' });
      compare(t, archive, rule);
    }
  });
});

const HELLO = 'hello';
const ones = { name: 'a', uid: 1, gid: 1 };
const listedHello = (fields: Partial<Listed>): Partial<Listed> => ({ size: HELLO.length, ...fields });

/** Archives by hand, of which python reads some in another way. */
const READ: readonly (readonly [rule: string, archive: readonly Buffer[], want: readonly Partial<Listed>[]])[] = [
  ['an empty archive', [END], []],
  ['no bytes at all', [], []],
  ['an archive without its end', [member(ones, HELLO)], [listedHello({ name: 'a' })]],
  ['one block of zeros at the end', [member(ones, HELLO), END.subarray(512)], [listedHello({ name: 'a' })]],
  ['what follows the end is ignored', [member(ones), END, member({ name: 'b' }), Buffer.from('x')], [{ name: 'a' }]],
  ['a prefix', [member({ name: 'n', prefix: 'p/q' }), END], [{ name: 'p/q/n' }]],
  ['a header of GNU has no prefix', [member({ name: 'n', prefix: 'p', magic: 'ustar  \0' }), END], [{ name: 'n' }]],
  ['a header without a magic', [member({ name: 'n', prefix: 'p', magic: '', devmajor: 'x' })], [{ name: 'n' }]],
  ['an old directory', [member({ name: 'd/', type: '\0' })], [{ name: 'd', type: 'directory' }]],
  ['an empty name', [member({ name: '' })], [{ name: '' }]],
  [
    'numbers with spaces',
    [member({ mode: '  644 \0', uid: '\0\0 7', size: '         0 ' })],
    [{ mode: 0o644, uid: 7 }],
  ],
  ['empty numbers are 0', [member({ mode: '', uid: '        ', mtime: '' })], [{ mode: 0, uid: 0, mtime: 0 }]],
  ['numbers without an end', [member({ mode: '00000644' })], [{ mode: 0o644 }]],
  [
    'base-256',
    [member({ uid: '\x80\0\0\0\xff\xff\xff\xfe', mtime: `\xff${'\xff'.repeat(10)}\xfe` })],
    [{ uid: 2 ** 32 - 2, mtime: -2 }],
  ],
  [
    'a signed checksum',
    [member({ name: '\xff\xfe', checksum: signedSum({ name: '\xff\xfe' }) })],
    [{ name: '\xff\xfe' }],
  ],
  [
    'a link with a size has no data',
    [headerBlock({ type: '1', size: 512, linkname: 'a' }), member(ones)],
    [{}, { name: 'a' }],
  ],
  ['a global header is ignored', [member({ type: 'g' }, record('path', 'no')), member(ones)], [{ name: 'a' }]],
  ['an archive of a global header alone', [member({ type: 'g' }, record('comment', 'x')), END], []],
  [
    'the size of an extended header counts',
    [paxHeader(['size', '5']), headerBlock({ size: 0 }), Buffer.from(HELLO.padEnd(512, '\0')), member(ones)],
    [{ size: 5 }, { name: 'a' }],
  ],
  [
    'an extended header wins over a long name',
    [long('L', 'gnu'), paxHeader(['path', 'pax']), member({})],
    [{ name: 'pax' }],
  ],
  ['the last of two records counts', [paxHeader(['path', 'b'], ['path', 'c']), member({})], [{ name: 'c' }]],
  ['an empty record takes back', [paxHeader(['path', 'b'], ['path', '']), member(ones)], [{ name: 'a' }]],
  ['extensions end with their entry', [paxHeader(['uid', '9']), member({}), member({})], [{ uid: 9 }, { uid: 0 }]],
  ['a time before 1970', [paxHeader(['mtime', '-1.25']), member({})], [{ mtime: -2, mtimensec: 750_000_000 }]],
  ['more digits than nanoseconds', [paxHeader(['mtime', '1.1234567899']), member({})], [{ mtimensec: 123_456_789 }]],
  [
    'a value with newlines',
    [paxHeader(['SCHILY.xattr.a', '\n9 x=y\n\0']), member({})],
    [{ xattrs: [['a', '\n9 x=y\n\0']] }],
  ],
];

function long(type: string, text: string): Buffer {
  return member({ name: '././@LongLink', type, magic: 'ustar  \0' }, `${text}\0`);
}

/** The checksum as programs computed it that added signed bytes. */
function signedSum(fields: Fields): string {
  const block = headerBlock(fields);
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + ((byte << 24) >> 24), 0);
  return `${sum.toString(8).padStart(6, '0')}\0 `;
}

t.test('archives by hand', async t => {
  for (const [rule, archive, want] of READ)
    for (const piece of [100, 1 << 16]) t.match(listArchive(Buffer.concat(archive), piece), want, rule);
});

t.test('the last entry without its padding', async t => {
  const files = Buffer.concat([member({ name: 'a' }, 'first'), member({ name: 'b' }, 'last')]);
  const padding = 512 - 'last'.length;
  for (const left of [0, 1, padding - 1])
    for (const piece of [100, 1 << 16]) {
      const cut = files.subarray(0, files.length - padding + left);
      t.strictSame(listArchive(cut, piece), listArchive(files), `${left} bytes of padding`);
    }
  const short = files.subarray(0, files.length - padding - 1);
  t.throws(() => listArchive(short), { message: 'entry b at byte 1024: the archive is cut off' }, 'data is missing');
});

t.test('a layer that umoci inserts', { skip: without('umoci') }, async t => {
  const home = t.testdir({ tree: { file: 'x'.repeat(700) } });
  const layout = join(home, 'layout');
  const umoci = (...words: string[]): Buffer => execFileSync('umoci', words, { stdio: 'pipe' });
  umoci('init', '--layout', layout);
  umoci('new', '--image', `${layout}:v1`);
  umoci('insert', '--image', `${layout}:v1`, join(home, 'tree'), '/tree');
  const blobs = readdirSync(join(layout, 'blobs', 'sha256')).map(name => join(layout, 'blobs', 'sha256', name));
  const layers = blobs.map(path => readFileSync(path)).filter(bytes => bytes[0] === 0x1f && bytes[1] === 0x8b);
  const [layer = Buffer.alloc(0)] = layers.map(bytes => gunzipSync(bytes));
  t.match(listArchive(layer).at(-1), { name: 'tree/file' }, `of ${layer.length} bytes`);
});

const gnuSparse = (sp: string, realsize: string, more: Fields = {}): Buffer =>
  member(
    {
      name: 's',
      type: 'S',
      magic: 'ustar  \0',
      raw: [
        [386, sp],
        [483, realsize],
      ],
      ...more,
    },
    HELLO,
  );
const octal = (n: number): string => n.toString(8).padStart(11, '0').concat(' ');
const sparse1 = (text: string, size = '10'): Buffer[] => [
  paxHeader(['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.realsize', size]),
  member({ name: 's' }, text.padEnd(512, '\0') + HELLO),
];

/** What is refused, with the start of the message. */
const REFUSED: readonly (readonly [rule: string, archive: readonly Buffer[], message: string])[] = [
  ['a wrong checksum', [member({ checksum: '0000001\0' })], 'header at byte 0: the checksum is 1'],
  ['no tar at all', [Buffer.alloc(512, 'x')], 'header at byte 0: the checksum is no number: "xxxxxxxx"'],
  ['a number that is none', [member({ mode: '09' })], 'header at byte 0: the mode is no number: "09'],
  ['a negative size', [headerBlock({ size: '\xff'.repeat(12) })], 'header at byte 0: the size is negative: -1'],
  [
    'a size past 2^53',
    [headerBlock({ size: `\x80\0\0\0\x7f${'\xff'.repeat(7)}` })],
    'header at byte 0: the size is too large',
  ],
  [
    'a uid of 33 bits',
    [headerBlock({ name: 'u', uid: '\x80\0\0\x01\0\0\0\0' })],
    'entry u at byte 0: the uid 4294967296',
  ],
  ['an unknown type', [headerBlock({ name: 'v', type: 'V' })], 'entry v at byte 0: type "V" is not known'],
  ['a type of bytes', [headerBlock({ type: '\xff' })], 'entry file at byte 0: type "ÿ" is not known'],
  ['a lone block of zeros', [END.subarray(512), member({})], 'header at byte 512: a header follows a single block'],
  ['an archive within a header', [member(ones), Buffer.alloc(9, 'x')], 'header at byte 512: the archive is cut off'],
  [
    'an archive within data',
    [headerBlock({ name: 'a', size: 600 }), Buffer.alloc(512)],
    'entry a at byte 0: the archive is cut off',
  ],
  [
    'an archive within an extension',
    [headerBlock({ type: 'x', size: 600 })],
    'header at byte 0: the archive is cut off',
  ],
  ['an extension without its entry', [paxHeader(['uid', '1'])], 'header at byte 0: the archive is cut off'],
  ['an extension and the end', [long('L', 'name'), END], 'entry name at byte 0: the archive ends after an extension'],
  [
    'an extension beyond the limit',
    [headerBlock({ type: 'x', size: 1 << 20 })],
    'header at byte 0: its extensions have 1049088 bytes',
  ],
  ['a global one, too', [headerBlock({ type: 'g', size: 2 ** 40 })], 'header at byte 0: its extensions have'],
  [
    'all extensions of an entry count',
    [long('L', 'l'.repeat(600_000)), headerBlock({ type: 'K', size: 600_000 })],
    `entry ${'l'.repeat(256)}… at byte 0: its extensions have`,
  ],
  ['extensions without end', [long('L', 'a'), long('L', 'b')], 'entry a at byte 0: two extensions of type L'],
  [
    'a record without a length',
    [member({ type: 'x' }, 'x uid=1\n')],
    'header at byte 0: a record of an extended header has no length',
  ],
  [
    'a length of 0',
    [member({ type: 'x' }, '0 uid=1\n')],
    'header at byte 0: a record of an extended header has no length',
  ],
  [
    'a length past the end',
    [member({ type: 'x' }, '99 uid=1\n')],
    'header at byte 0: a record of an extended header is cut off',
  ],
  [
    'a length within the record',
    [member({ type: 'x' }, '5 uid=1\n')],
    'header at byte 0: a record of an extended header is cut off',
  ],
  [
    'a record without a key',
    [member({ type: 'x' }, '5 =1\n')],
    'header at byte 0: a record of an extended header has no key',
  ],
  [
    'a record without =',
    [member({ type: 'x' }, '6 uid\n')],
    'header at byte 0: a record of an extended header has no key',
  ],
  [
    'a NUL in a name',
    [paxHeader(['path', 'a\0b']), member({})],
    'header at byte 0: the path of an extended header has a NUL',
  ],
  [
    'a NUL in the name of an xattr',
    [paxHeader(['SCHILY.xattr.\0', '']), member({})],
    'header at byte 0: an xattr without a name',
  ],
  [
    'a negative size in pax',
    [paxHeader(['size', '-1']), member({})],
    'header at byte 0: the size of an extended header',
  ],
  [
    'a size past 2^53 in pax',
    [paxHeader(['size', '9007199254740992']), member({})],
    'header at byte 0: the size of an extended',
  ],
  [
    'a time that is none',
    [paxHeader(['mtime', '1e5']), member({})],
    'header at byte 0: the mtime of an extended header is no time',
  ],
  [
    'segments out of order',
    [gnuSparse(octal(5) + octal(2) + octal(0) + octal(3), octal(10))],
    'entry s at byte 0: the sparse map has a segment at 0',
  ],
  [
    'a segment past the end',
    [gnuSparse(octal(8) + octal(5), octal(10))],
    'entry s at byte 0: the sparse map leads to 13',
  ],
  [
    'more data than segments',
    [gnuSparse(octal(0) + octal(4), octal(10))],
    'entry s at byte 0: the sparse map has 4 bytes',
  ],
  [
    'S without the magic of GNU',
    [gnuSparse('', '', { magic: 'ustar\x0000' })],
    'entry s at byte 0: a sparse file of GNU in a header',
  ],
  [
    'a map of pax that is no number',
    sparse1('1\nx\n5\n'),
    'entry s at byte 0: the sparse map has a line that is no number',
  ],
  [
    'a map without its size',
    sparse1('1\n0\n5\n')
      .slice(1)
      .toSpliced(0, 0, paxHeader(['GNU.sparse.major', '1'])),
    'entry s at byte 0: a sparse file without its size',
  ],
  ['a map of pax that does not end', sparse1('9\n0\n5\n'), 'entry s at byte 0: the sparse map'],
  ['too many segments', sparse1('65537\n'), 'entry s at byte 0: a sparse file of more than 65536 segments'],
  [
    'another version',
    [paxHeader(['GNU.sparse.major', '2'], ['GNU.sparse.size', '9']), member({ name: 's' })],
    'entry s at byte 0: a sparse file of version 2.0',
  ],
];

t.test('what is refused', async t => {
  for (const [rule, archive, message] of REFUSED)
    for (const piece of [100, 1 << 21]) {
      const error = attempt(() => listArchive(Buffer.concat(archive), piece));
      t.ok(error instanceof ErrnoError && error.message.startsWith(message), `${rule}: ${(error as Error).message}`);
    }
  const three = Buffer.concat([member({ name: 'a' }), member({ name: 'b' }), member({ name: 'c' })]);
  t.equal(listArchive(three, 512, 3).length, 3);
  t.throws(() => listArchive(three, 512, 2), { name: 'EFBIG', message: 'entry c at byte 1024: more than 2 entries' });
});

t.test('sparse files by hand', async t => {
  const want = [{ name: 's', size: 10, data: sha256('\0\0\0hello\0\0') }];
  t.match(listArchive(gnuSparse(octal(3) + octal(5), octal(10))), want, 'old GNU');
  t.match(listArchive(Buffer.concat(sparse1('1\n3\n5\n'))), want, 'version 1.0');
});

const sha256 = (text: string): string =>
  execFileSync('sha256sum', { input: bufferOf(text), encoding: 'utf8' }).slice(0, 64);
t.end();
