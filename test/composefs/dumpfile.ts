import fc from 'fast-check';
import t from 'tap';
import { LINE_BYTES_MAX, linesOf, parseDump, stageDump } from '../../src/composefs/dumpfile.ts';
import { escapeField, escapeOptional, escapeXattr, unescapeField } from '../../src/composefs/escape.ts';
import { printDump } from '../../src/composefs/print-dump.ts';
import { setXattr, type TreeInode } from '../../src/composefs/tree.ts';
import { EINVAL } from '../../src/sys/errno.ts';

const root = '/ 4096 40755 2 0 0 0 0.0 - - -';
const digest = 'ab'.repeat(32);
const nameOf255 = 'n'.repeat(255);

/** Printed again as they stand: the fields of composefs-dump(5). */
for (const [rule, ...lines] of [
  ['a root alone', root],
  ['a file with its data elsewhere', root, `/f 1000 100644 1 1000 1001 0 1695368732.385062094 ab/cd - ${digest}`],
  ['a digest of SHA-512', root, `/f 1000 100644 1 0 0 0 0.0 ab/cd - ${digest}${digest}`],
  ['a file with its content', root, '/f 10 100644 1 0 0 0 0.0 - some-text\\n -'],
  ['a content of every kind of byte', root, '/f 6 100644 1 0 0 0 0.0 - \\x00\\xff\\x20=\\\\\\t -'],
  ['a content that is a dash', root, '/f 1 100644 1 0 0 0 0.0 - \\x2d -'],
  ['a payload that is a dash', root, '/f 9 100644 1 0 0 0 0.0 \\x2d - -'],
  ['a symlink', root, '/l 7 120777 1 0 0 0 0.0 ../a=\\x20b - -'],
  ['a time before 1970', root, '/f 0 100644 1 0 0 0 -5.999999999 - - -'],
  ['the last second of 64 bits', root, '/f 0 100644 1 0 0 0 9223372036854775807.999999999 - - -'],
  ['the first one', root, '/f 0 100644 1 0 0 0 -9223372036854775808.0 - - -'],
  ['2^53 + 1 seconds', root, '/f 0 100644 1 0 0 0 9007199254740993.0 - - -'],
  ['more nanoseconds than a second has', root, '/f 0 100644 1 0 0 0 5.4294967295 - - -'],
  ['a size of 2^53', root, '/f 9007199254740992 100644 1 0 0 0 0.0 - - -'],
  ['owners of 32 bits', root, '/f 0 100644 4294967295 4294967295 4294967294 0 0.0 - - -'],
  ['devices', root, '/b 0 60660 1 0 0 4294967295 0.0 - - -', '/c 0 20000 1 0 0 0 0.0 - - -'],
  ['sockets and pipes', root, '/p 0 10644 1 0 0 0 0.0 - - -', '/s 0 140755 1 0 0 0 0.0 - - -'],
  ['setuid, setgid, sticky', root, '/f 0 107755 1 0 0 0 0.0 - - -'],
  ['xattrs in their order', `${root} user.b=2 user.a=\\x3d1 user.c\\x3d=`],
  ['a hard link', root, '/a 5 100644 2 0 0 0 1.2 - a\\xe4b-- -', '/b 5 @100644 2 0 0 0 1.2 /a a\\xe4b-- -'],
  ['a file that its origin leads to', root, `/f 9 100644 1 0 0 0 0.0  - ${digest} trusted.overlay.origin=\\x00\\xfb`],
  [
    'with an xattr of that name in the tree',
    root,
    `/f 9 100644 1 0 0 0 0.0  - ${digest} trusted.overlay.origin=\\x00 trusted.overlay.origin=x user.a=1`,
  ],
  ['only such an xattr', root, `/f 9 100644 1 0 0 0 0.0 ab/cd - ${digest} trusted.overlay.origin=x`],
  ['a name of 255 bytes', root, `/${nameOf255} 0 100644 1 0 0 0 0.0 - - -`],
  [
    'names in byte order, directories before their names',
    root,
    '/a 0 40755 2 0 0 0 0.0 - - -',
    '/a/z 0 100644 1 0 0 0 0.0 - - -',
    '/a-b 0 100644 1 0 0 0 0.0 - - -',
    '/\\xff 0 100644 1 0 0 0 0.0 - - -',
  ],
])
  t.same([...printDump(parseDump(lines))], lines, rule as string);

{
  const count = 50_000;
  const row = Array.from({ length: count }, (_, i) => `/l${i} 0 @100644 1 0 0 0 0.0 /l${i + 1} - -`);
  const { entries } = parseDump([root, ...row, `/l${count} 7 100644 1 0 0 0 0.0 - - -`]);
  const inodes = new Set([...entries.values()].map(({ inode }) => inode));
  t.equal(inodes.size, 1, 'a long row of hard links, each to the next');
}

{
  const origin = `/f 9 100644 1 0 0 0 0.0  - ${digest} trusted.overlay.origin=x`;
  const path = `/g 9 100644 1 0 0 0 0.0 ab/cd - ${digest} trusted.overlay.origin=x`;
  for (const [rule, ...files] of [
    ['an origin, then an xattr of the same text', origin, path],
    ['the other way round', path.replace('/g', '/a'), origin],
    ['twice the same', path, path.replace('/g', '/h')],
  ])
    t.same([...printDump(parseDump([root, ...files]))], [root, ...files], rule as string);
  const { entries } = parseDump([root, `${path} user.a=1`, `${path.replace('/g', '/h')} user.a=1`]);
  const [first, second] = [...entries.values()].map(({ inode }) => inode) as [TreeInode, TreeInode];
  setXattr(first, 'user.b', '2');
  t.same([first.xattrs.size, second.xattrs.size], [3, 2], 'an xattr that is set later belongs to one inode alone');
}

/** Another spelling of what prints as the second list. */
const file = '/f 0 100644 1 0 0 0 0.0 - - -';
for (const [rule, given, printed] of [
  [
    'slashes may repeat, the first may miss',
    [root, '/d 0 40755 2 0 0 0 0.0 - - -', 'd//f 0 100644 1 0 0 0 0.0 - - -'],
    [root, '/d 0 40755 2 0 0 0 0.0 - - -', '/d/f 0 100644 1 0 0 0 0.0 - - -'],
  ],
  ['a space may end a line', [`${root} `, `${file} `], [root, file]],
  [
    'a line may end after the time',
    [root, '/d 0 40755 2 0 0 0 0.0', '/f 0 100644 1 0 0 0 0.0'],
    [root, '/d 0 40755 2 0 0 0 0.0  - -', '/f 0 100644 1 0 0 0 0.0  - -'],
  ],
  ['after the payload', [root, '/l 0 120777 1 0 0 0 0.0 to'], [root, '/l 2 120777 1 0 0 0 0.0 to - -']],
  ['after the content', [root, '/f 2 100644 1 0 0 0 0.0 - ab'], [root, '/f 2 100644 1 0 0 0 0.0 - ab -']],
  [
    'a hard link after its target',
    [root, '/a - @100000 - - - - - /f', file],
    [root, '/a 0 @100644 1 0 0 0 0.0 /f - -', file],
  ],
  ['an empty content is none', [root, '/f 0 100644 1 0 0 0 0.0 -  -'], [root, file]],
  ['a device number counts for devices alone', [root, '/f 0 100644 1 0 0 77 0.0 - - -'], [root, file]],
  [
    'a symlink is as long as its target',
    [root, '/l 77 120777 1 0 0 0 0.0 to - -'],
    [root, '/l 2 120777 1 0 0 0 0.0 to - -'],
  ],
  ['a symlink has no content', [root, '/l 1 120777 1 0 0 0 0.0 to x -'], [root, '/l 2 120777 1 0 0 0 0.0 to - -']],
  [
    'a digest may be in capitals',
    [root, `/f 0 100644 1 0 0 0 0.0 - - ${digest.toUpperCase()}`],
    [root, `/f 0 100644 1 0 0 0 0.0 - - ${digest}`],
  ],
  ['the last xattr of a name counts', [`${root} user.a=1 user.a=2`], [`${root} user.a=2`]],
  ['escapes that need none', ['/ 4096 40755 2 0 0 0 0.0 - - - user.\\x61=\\x62\\n'], [`${root} user.a=b\\n`]],
  [
    'a hard link needs no more than type and target',
    [root, '/a - @100000 - - - - - /f - -', file],
    [root, '/a 0 @100644 1 0 0 0 0.0 /f - -', file],
  ],
  [
    'a hard link to a hard link',
    [root, '/a 0 @100644 1 0 0 0 0.0 /b - -', '/b 0 @100644 1 0 0 0 0.0 /f - -', file],
    [root, '/a 0 @100644 1 0 0 0 0.0 /f - -', '/b 0 @100644 1 0 0 0 0.0 /f - -', file],
  ],
] as const)
  t.same([...printDump(parseDump(given))], printed, rule);

const words = (n: number): string => Array.from({ length: n }, (_, i) => `user.k${i}=${'v'.repeat(100)}`).join(' ');
for (const [rule, message, ...lines] of [
  ['no line', 'the dump is empty'],
  ['an empty line', 'line 2: an empty line', root, ''],
  ['seven fields', 'line 1: fewer than 8 fields', '/ 4096 40755 2 0 0 0'],
  ['a size but no field for the content', 'line 1: content: 0 bytes, but the size is 4096', '/ 4096 40755 2 0 0 0 0.0'],
  [
    'a file with its data elsewhere and no field for the digest',
    'line 2: digest: "" is neither 64 nor 128 hex digits',
    root,
    '/f 5 100644 1 0 0 0 0.0 ab/cd -',
  ],
  [
    'seconds past 2^63',
    'line 2: mtime: 9223372036854775808 seconds are past 2^63',
    root,
    '/f 0 100644 1 0 0 0 9223372036854775808.0 - - -',
  ],
  [
    'nanoseconds past 2^32',
    'line 2: mtime: 4294967296 is more than 4294967295',
    root,
    '/f 0 100644 1 0 0 0 0.4294967296 - - -',
  ],
  ['a NUL byte', 'line 1: a NUL byte at column 1', '/\0 4096 40755 2 0 0 0 0.0 - - -'],
  ['the root comes first', 'line 1: path: the root "/" must come first', file],
  ['the root comes once', 'line 2: path: a second root', root, root],
  ['the root is a directory', 'line 1: path: the root is not a directory', '/ 0 100644 1 0 0 0 0.0 - - -'],
  [
    'a parent comes first',
    'line 2: path: no earlier line has the directory of /d/f',
    root,
    '/d/f 0 100644 1 0 0 0 0.0 - - -',
  ],
  [
    'a parent is a directory',
    'line 3: path: the parent of /f/g is not a directory',
    root,
    file,
    '/f/g 0 100644 1 0 0 0 0.0 - - -',
  ],
  ['a path comes once', 'line 3: path: /f has a line already', root, file, file],
  ['an empty name', 'line 2: path: an empty name', root, '// 0 40755 1 0 0 0 0.0 - - -'],
  [
    'a slash at the end',
    'line 3: path: an empty name',
    root,
    '/d 0 40755 1 0 0 0 0.0 - - -',
    '/d/ 0 40755 1 0 0 0 0.0 - - -',
  ],
  ['the name .', 'line 2: path: the name .', root, '/. 0 40755 1 0 0 0 0.0 - - -'],
  ['the name ..', 'line 2: path: the name ..', root, '/.. 0 40755 1 0 0 0 0.0 - - -'],
  [
    'a name of 256 bytes',
    'line 2: path: a name of 256 bytes; 255 are allowed',
    root,
    `/${nameOf255}n 0 100644 1 0 0 0 0.0 - - -`,
  ],
  ['a NUL in a path', 'line 2: path: an escaped NUL byte', root, '/f\\x00 0 100644 1 0 0 0 0.0 - - -'],
  ['an escape cut short', 'line 2: path: escape "\\\\x4" is cut short', root, '/f\\x4 0 100644 1 0 0 0 0.0 - - -'],
  ['a backslash at the end', 'line 2: path: escape "\\\\" is cut short', root, '/f\\ 0 100644 1 0 0 0 0.0 - - -'],
  ['an unknown escape', 'line 2: path: escape "\\\\q" is unknown', root, '/f\\q 0 100644 1 0 0 0 0.0 - - -'],
  [
    'an escape of no hex digits',
    'line 2: path: escape "\\\\xg0" is unknown',
    root,
    '/f\\xg0 0 100644 1 0 0 0 0.0 - - -',
  ],
  ['no number', 'line 2: size: "1x" is not a number', root, '/f 1x 100644 1 0 0 0 0.0 - - -'],
  ['an empty number', 'line 2: uid: "" is not a number', root, '/f 0 100644 1  0 0 0 0.0 - - -'],
  ['a negative number', 'line 2: gid: "-1" is not a number', root, '/f 0 100644 1 0 -1 0 0.0 - - -'],
  [
    'a uid past 32 bits',
    'line 2: uid: 4294967296 is more than 4294967295',
    root,
    '/f 0 100644 1 4294967296 0 0 0.0 - - -',
  ],
  [
    'a size past 2^53',
    'line 2: size: 9007199254740993 is more than 9007199254740992',
    root,
    '/f 9007199254740993 100644 1 0 0 0 0.0 - - -',
  ],
  ['a mode that is not octal', 'line 2: mode: "100648" is not an octal number', root, '/f 0 100648 1 0 0 0 0.0 - - -'],
  ['a mode without a type', 'line 2: mode: 644 has no file type', root, '/f 0 644 1 0 0 0 0.0 - - -'],
  ['a mode of an unknown type', 'line 2: mode: 50000 has no file type', root, '/f 0 50000 1 0 0 0 0.0 - - -'],
  ['a time without nanoseconds', 'line 2: mtime: "5" is not seconds.nanoseconds', root, '/f 0 100644 1 0 0 0 5 - - -'],
  ['a content of another size', 'line 2: content: 2 bytes, but the size is 3', root, '/f 3 100644 1 0 0 0 0.0 - ab -'],
  [
    'a content of 5001 bytes',
    'line 2: content: 5001 bytes; 5000 are allowed',
    root,
    `/f 5001 100644 1 0 0 0 0.0 - ${'x'.repeat(5001)} -`,
  ],
  ['a symlink without a target', 'line 2: payload: a symlink needs a target', root, '/l 0 120777 1 0 0 0 0.0 - - -'],
  [
    'a target of 4096 bytes',
    'line 2: payload: 4096 bytes; 4095 are allowed',
    root,
    `/l 0 120777 1 0 0 0 0.0 ${'x'.repeat(4096)} - -`,
  ],
  [
    'a digest cut short',
    'line 2: digest: "abc" is neither 64 nor 128 hex digits',
    root,
    '/f 0 100644 1 0 0 0 0.0 - - abc',
  ],
  ['an xattr without =', 'line 1: xattr: "user.a" has no =', `${root} user.a`],
  ['two spaces', 'line 1: xattr: "" has no =', `${root}  user.a=`],
  ['an xattr without a name', 'line 1: xattr: a name of 0 bytes; 1 to 255 are allowed', `${root} =v`],
  [
    'an xattr name of 256 bytes',
    'line 1: xattr: a name of 256 bytes; 1 to 255 are allowed',
    `${root} ${'k'.repeat(256)}=`,
  ],
  [
    'xattrs of more than half of 64 KiB',
    'line 1: xattr: the xattrs need up to 32846 bytes; 32767 are allowed',
    `${root} ${words(290)}`,
  ],
  [
    'more text of xattrs than 64 KiB',
    'line 1: xattr: 65536 bytes; 65535 are allowed',
    `${root} user.a=${'v'.repeat(65536 - 7)}`,
  ],
  [
    'a hard link to nothing',
    'line 2: payload: no line has /x, the target of the hard link',
    root,
    '/a 0 @100644 1 0 0 0 0.0 /x - -',
  ],
  [
    'a hard link without a target',
    'line 2: payload: a hard link needs the path of its target',
    root,
    '/a 0 @100644 1 0 0 0 0.0 - - -',
  ],
  ['a hard link to itself', 'line 2: payload: /a is a hard link to itself', root, '/a 0 @100644 1 0 0 0 0.0 /a - -'],
  [
    'hard links in a circle',
    'line 2: payload: /b is a hard link to itself',
    root,
    '/a 0 @100644 1 0 0 0 0.0 /b - -',
    '/b 0 @100644 1 0 0 0 0.0 /a - -',
  ],
  ['a hard link to a directory', 'line 2: payload: a hard link to a directory', root, '/a 0 @100644 1 0 0 0 0.0 / - -'],
  [
    'a directory as a hard link',
    'line 2: mode: a directory cannot be a hard link',
    root,
    '/a 0 @40755 1 0 0 0 0.0 / - -',
  ],
] as const) {
  t.throws(() => parseDump(lines), { errno: EINVAL, message }, `refused: ${rule}`);
  t.throws(() => stageDump(lines, false, {}), { errno: EINVAL, message }, `refused for an image, too: ${rule}`);
}

for (const [rule, bytes, field, xattr, optional] of [
  ['what shows stays', 'aZ~!', 'aZ~!', 'aZ~!', 'aZ~!'],
  ['= counts in xattrs alone', 'a=b', 'a=b', 'a\\x3db', 'a=b'],
  ['a lone dash counts where it means unset', '-', '-', '-', '\\x2d'],
  ['two dashes mean nothing', '--', '--', '--', '--'],
  ['short escapes', '\\\n\r\t', '\\\\\\n\\r\\t', '\\\\\\n\\r\\t', '\\\\\\n\\r\\t'],
  [
    'space, control bytes and bytes past ASCII',
    ' \0\x7f\xe9',
    '\\x20\\x00\\x7f\\xe9',
    '\\x20\\x00\\x7f\\xe9',
    '\\x20\\x00\\x7f\\xe9',
  ],
] as const)
  t.same([escapeField(bytes), escapeXattr(bytes), escapeOptional(bytes)], [field, xattr, optional], rule);

const latin1 = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map(c => String.fromCharCode(c)) });
t.doesNotThrow(
  () =>
    fc.assert(
      fc.property(
        latin1,
        bytes => unescapeField(escapeField(bytes)) === bytes && unescapeField(escapeXattr(bytes)) === bytes,
      ),
    ),
  'any bytes come back from their escapes',
);
t.doesNotThrow(
  () =>
    fc.assert(
      fc.property(latin1, fc.array(fc.nat({ max: 300 })), (text, cuts) => {
        const bytes = Buffer.from(text, 'latin1');
        const ends = [...cuts.map(cut => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
        const chunks = ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end));
        const lines = text.split('\n');
        if (lines.at(-1) === '') lines.pop();
        return [...linesOf(chunks)].join('\n') === lines.join('\n');
      }),
    ),
  'lines do not depend on where the stream is cut',
);

t.test('lines that do not end', async t => {
  const bytes = Buffer.alloc(1 << 16, 'x');
  function* endless(): Generator<Uint8Array> {
    yield Buffer.from('/ 0 40755 1 0 0 0 0.0 - - -\n');
    for (;;) yield bytes;
  }
  t.throws(
    () => [...linesOf(endless())],
    { errno: EINVAL, message: /^line 2: more than 1048576 bytes$/ },
    'are refused',
  );
  const once = Buffer.alloc(LINE_BYTES_MAX + 1, 'x');
  t.throws(() => [...linesOf([once])], { errno: EINVAL, message: /^line 1: more/ }, 'in one piece, too');
  const single = Array.from({ length: 300_000 }, () => Buffer.from('x'));
  t.equal([...linesOf(single)][0]?.length, 300_000, 'byte for byte in time that grows with the length');
  const name = '\\x01';
  const longest = [
    `/${name.repeat(255)}`,
    '5000 100644 1 0 0 0 0.0',
    name.repeat(4095),
    name.repeat(5000),
    'ab'.repeat(32),
    `user.x=${'\\x02'.repeat(16_000)}`,
  ].join(' ');
  t.doesNotThrow(
    () => parseDump(linesOf([Buffer.from(`/ 0 40755 1 0 0 0 0.0 - - -\n${longest}\n`)])),
    'the longest line is none of them',
  );
});
