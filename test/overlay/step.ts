import t from 'tap';
import type { Inode } from '../../src/layers/layer.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import {
  isWhiteout,
  MISSING,
  newSearch,
  opaqueness,
  type Rules,
  type Search,
  step,
  TAKES_PART,
  type Verdict,
} from '../../src/overlay/step.ts';
import { OverlayXattrs } from '../../src/overlay/xattrs.ts';
import { EINVAL, EIO } from '../../src/sys/errno.ts';
import { S_IFBLK, S_IFREG, S_IFSOCK } from '../../src/sys/stat.ts';
import { device, dir, FakeLayer, fifo, file, link, meta, type Spec, whiteout } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';

const xattrs = new OverlayXattrs(false);
/** metacopy=on, redirects are followed, no data-only layers. */
const plain: Rules = new Overlay([new FakeLayer('A', dir())], [], plainOptions).rules;

const inodeOf = (spec: Spec): Inode => new FakeLayer('A', spec).root;

/** The fields of a search that a test names, before or after the step. */
type Fields = Partial<Omit<Search, 'xwhiteouts'>> & { xwhiteouts?: number };

interface Row {
  rule: string;
  found: Spec;
  want: Verdict;
  before?: Fields;
  /** What is before and after the component of the name; as for a relative name of one component without. */
  at?: [prefixBytes: number, rest: string];
  rules?: Partial<Rules>;
  after: Fields;
}

const merging: Fields = { isDir: true };
const afterMeta: Fields = { metacopy: true };
const row = (rule: string, found: Spec, want: Verdict, after: Fields, more: Partial<Row> = {}): Row => ({
  rule,
  found,
  want,
  after,
  ...more,
});
const opaque = dir({}, { opaque: 'y' });
const redirected = (to: string): Spec => dir({}, { redirect: to });
const metaTo = (to: string): Spec => meta({ redirect: to });
const onTheWay: Partial<Row> = { before: { name: '/a/b/c' }, at: [3, '/c'] };

const table: Row[] = [
  row('W2: a whiteout ends the search and is not found', whiteout, MISSING, { stop: true }),
  row('W2: also below a directory', whiteout, MISSING, { stop: true, isDir: true }, { before: merging }),
  row('W2: also on the way of a redirect', whiteout, MISSING, { stop: true }, onTheWay),
  row('W3: an xattr whiteout does the same', file('', { whiteout: 'y' }), MISSING, { stop: true }),
  row('W3: it comes before metacopy', meta({ whiteout: '' }), MISSING, { stop: true, metacopy: false }),

  row('L4: a regular file ends the search', file(), TAKES_PART, { stop: true, metacopy: false }),
  row('L4: so does a symlink', link('x'), TAKES_PART, { stop: true, metacopy: false }),
  row('L4: so does a fifo', fifo(), TAKES_PART, { stop: true }),
  row('L4: a directory goes on to merge', dir(), TAKES_PART, { stop: false, isDir: true }),
  row('L4: a directory merges with a directory', dir(), TAKES_PART, { stop: false, isDir: true }, { before: merging }),
  row('L4: a non-directory below a directory ends the merge', file(), MISSING, { stop: true }, { before: merging }),
  row('L4: a symlink is never followed to merge', link('d'), MISSING, { stop: true }, { before: merging }),
  row('L4: a file on the way of a redirect ends the search', file(), MISSING, { stop: true }, onTheWay),
  row('L4: a symlink on the way, too', link('d'), MISSING, { stop: true }, onTheWay),
  row('L4: a metacopy file on the way, too', meta(), MISSING, { stop: true, metacopy: false }, onTheWay),

  row('M1: a metacopy file goes on for its data', meta(), TAKES_PART, { stop: false, metacopy: true }),
  row('M1: a regular file is the data', file(), TAKES_PART, { stop: true, metacopy: false }, { before: afterMeta }),
  row(
    'M1: a further metacopy file goes on',
    meta(),
    TAKES_PART,
    { stop: false, metacopy: true },
    { before: afterMeta },
  ),
  row('L8: a directory is no data', dir(), MISSING, { stop: true, metacopy: true }, { before: afterMeta }),
  row('L8: a symlink is no data', link('x'), MISSING, { stop: true, metacopy: true }, { before: afterMeta }),
  row(
    'M1: a directory on the way to data is passed',
    dir(),
    TAKES_PART,
    { stop: false, isDir: false },
    {
      before: { ...afterMeta, name: '/a/b/c' },
      at: [3, '/c'],
    },
  ),
  row('M1: on other types the xattr means nothing', fifo({ metacopy: '' }), TAKES_PART, {
    stop: true,
    metacopy: false,
  }),
  row('M2: a value of 1 byte is EIO', file('', { metacopy: '\0' }), -EIO, {}),
  row('M2: a value of 3 bytes is EIO', file('', { metacopy: '\0\x03\0' }), -EIO, {}),
  row('M2: 4 bytes are a metacopy file, whatever is in them', file('', { metacopy: '9zzz' }), TAKES_PART, {
    metacopy: true,
    stop: false,
  }),

  row('O1: opaque=y ends a merge', opaque, TAKES_PART, { stop: true, isDir: true }),
  row('O1: opaque=yy is nothing', dir({}, { opaque: 'yy' }), TAKES_PART, { stop: false }),
  row('O1: an empty opaque is nothing', dir({}, { opaque: '' }), TAKES_PART, { stop: false }),
  row('O1: opaque=n is nothing', dir({}, { opaque: 'n' }), TAKES_PART, { stop: false }),
  row('O2: opaque counts on the way of a redirect', opaque, TAKES_PART, { stop: true, isDir: false }, onTheWay),
  row('O4: opaque comes before the redirect, valid or not', dir({}, { opaque: 'y', redirect: '/' }), TAKES_PART, {
    stop: true,
    redirect: undefined,
    name: 'n',
  }),
  row('O4: on a non-directory it means nothing', meta({ opaque: 'y' }), TAKES_PART, { stop: false }),
  row('O4: under the other prefix it is nothing', dir({}, { 'user.overlay.opaque': 'y' }), TAKES_PART, { stop: false }),
  row('W5: opaque=x is noted, and the merge goes on', dir({}, { opaque: 'x' }), TAKES_PART, {
    stop: false,
    xwhiteouts: 1,
  }),
  row('W5: opaque=x on the way is not noted', dir({}, { opaque: 'x' }), TAKES_PART, { xwhiteouts: 0 }, onTheWay),

  row(
    'L6: in the lowest layer opaque is not read',
    opaque,
    TAKES_PART,
    { stop: false, isDir: true },
    { before: { last: true } },
  ),
  row('L6: nor is a redirect', redirected('/'), TAKES_PART, { redirect: undefined }, { before: { last: true } }),
  row(
    'L6: nor that of a metacopy file',
    metaTo('/'),
    TAKES_PART,
    { redirect: undefined, metacopy: true },
    { before: { last: true } },
  ),
  row('W6: nor is opaque=x', dir({}, { opaque: 'x' }), TAKES_PART, { xwhiteouts: 0 }, { before: { last: true } }),

  row('R1: a regular file has no redirect', file('d', { redirect: '/' }), TAKES_PART, {
    redirect: undefined,
    stop: true,
  }),
  row('R1: a fifo has no redirect', fifo({ redirect: '/' }), TAKES_PART, { redirect: undefined, stop: true }),
  row('R2: a relative redirect is a new name', redirected('m'), TAKES_PART, {
    name: 'm',
    redirect: 'm',
    absolute: false,
  }),
  row(
    'R2: it takes the place of its component alone',
    redirected('xyz'),
    TAKES_PART,
    { name: '/a/xyz/c', redirect: '/a/xyz/c' },
    onTheWay,
  ),
  row('R2: an absolute one is a new path', redirected('/p/q'), TAKES_PART, {
    name: '/p/q',
    redirect: '/p/q',
    absolute: true,
  }),
  row(
    'R2: what follows the component stays',
    redirected('/p'),
    TAKES_PART,
    { name: '/p/c', redirect: '/p/c', absolute: true },
    onTheWay,
  ),
  row('R2: the value ends at a NUL', redirected('m\0/x'), TAKES_PART, { name: 'm', redirect: 'm' }),
  row('R3: an empty value is EINVAL', redirected(''), -EINVAL, {}),
  row('R3: a slash in a name is EINVAL', redirected('a/b'), -EINVAL, {}),
  row('R3: a lone slash is EINVAL', redirected('/'), -EINVAL, {}),
  row('R3: on the way it is EINVAL, too', redirected('/a/'), -EINVAL, {}, onTheWay),
  row('R3: on a metacopy file it is EINVAL, too', metaTo('/a//b'), -EINVAL, {}),
  row('R4: a value that starts with NUL is an empty name', redirected('\0x'), TAKES_PART, { name: '', redirect: '' }),
  row('R4: two dots are left to the walk', redirected('..'), TAKES_PART, { name: '..', redirect: '..' }),
  row(
    'R5: an absolute redirect below an opaque directory on the way goes on',
    redirected('/p'),
    TAKES_PART,
    { stop: false },
    {
      before: { name: '/o/d', stop: true },
      at: [3, ''],
    },
  ),
  row(
    'R7: passing a plain directory forgets that the redirect was absolute',
    dir(),
    TAKES_PART,
    { absolute: false, redirect: '/a/b/c' },
    {
      before: { name: '/a/b/c', redirect: '/a/b/c', absolute: true, metacopy: true },
      at: [3, '/c'],
    },
  ),
  row(
    'R7: so does a further metacopy file',
    meta(),
    TAKES_PART,
    { absolute: false },
    { before: { ...afterMeta, absolute: true } },
  ),
  row(
    'R7: an opaque directory does not',
    opaque,
    TAKES_PART,
    { absolute: true },
    {
      before: { name: '/a/b/c', absolute: true, metacopy: true },
      at: [3, '/c'],
    },
  ),
  row(
    'R7: a regular file does not',
    file(),
    TAKES_PART,
    { absolute: true },
    { before: { ...afterMeta, absolute: true } },
  ),

  row('P-D2: // ends the search, with its path', metaTo('//p/q'), TAKES_PART, {
    stop: true,
    absolute: true,
    redirect: '/p/q',
    metacopy: true,
  }),
  row('P-D1: three slashes are EINVAL', metaTo('///p'), -EINVAL, {}),
  row('P-D1: two alone are EINVAL', metaTo('//'), -EINVAL, {}),
  row('P-D5: on a directory // is EINVAL', redirected('//p'), -EINVAL, {}),
  row(
    'P-D5: in the lowest layer it is not read',
    metaTo('//p'),
    TAKES_PART,
    { redirect: undefined },
    { before: { last: true } },
  ),
  row('semantics=kernel: // is EINVAL', metaTo('//p'), -EINVAL, {}, { rules: { dataRedirects: false } }),
  row(
    'redirects=data-only: /p of a metacopy file is as //p',
    metaTo('/p'),
    TAKES_PART,
    { stop: true, absolute: true, redirect: '/p' },
    { rules: { dataOnly: true } },
  ),
  row(
    'redirects=data-only: a relative one stays',
    metaTo('p'),
    TAKES_PART,
    { stop: false, redirect: 'p' },
    { rules: { dataOnly: true } },
  ),
  row(
    'redirects=data-only: a directory merges as ever',
    redirected('/p'),
    TAKES_PART,
    { stop: false, redirect: '/p' },
    { rules: { dataOnly: true } },
  ),
  row(
    'userxattr: the marks are user.overlay.*',
    dir({}, { 'user.overlay.opaque': 'y' }),
    TAKES_PART,
    { stop: true },
    { rules: { xattrs: new OverlayXattrs(true) } },
  ),
  row(
    'userxattr: trusted.overlay.* is nothing',
    opaque,
    TAKES_PART,
    { stop: false },
    { rules: { xattrs: new OverlayXattrs(true) } },
  ),
];

for (const { rule, found, want, before, at, rules, after } of table) {
  const [prefixBytes, rest] = at ?? [0, ''];
  const { xwhiteouts: _, ...start } = before ?? {};
  const search: Search = { ...newSearch('n'), ...start };
  t.equal(step({ ...plain, ...rules }, search, inodeOf(found), prefixBytes, rest), want, rule);
  const seen = { ...search, xwhiteouts: search.xwhiteouts.length };
  t.match(seen, after, `${rule}: and then`);
  for (const [key, value] of Object.entries(after))
    if (value === undefined) t.equal(seen[key as 'redirect'], value, rule);
}

for (const [rule, spec, want] of [
  ['W1: a character device 0:0', whiteout, true],
  ['W1: whatever its permissions', { ...whiteout, mode: whiteout.mode | 0o7777 }, true],
  ['W1: no other minor', device(0, 1), false],
  ['W1: no other major', device(1, 0), false],
  ['W1: no block device', { mode: S_IFBLK }, false],
  ['W3: an empty file with the xattr', file('', { whiteout: '' }), true],
  ['W3: not one with a byte', file('x', { whiteout: '' }), false],
  ['W3: not one without the xattr', file(''), false],
  ['W3: not another type', { mode: S_IFSOCK, xattrs: { 'trusted.overlay.whiteout': '' } }, false],
  ['W3: not under the other prefix', { mode: S_IFREG, xattrs: { 'user.overlay.whiteout': '' } }, false],
] as const) {
  t.equal(isWhiteout(xattrs, inodeOf(spec)), want, rule);
}

for (const [value, want] of [
  ['y', 'y'],
  ['x', 'x'],
  ['Y', undefined],
  ['yy', undefined],
  ['y\0', undefined],
  ['', undefined],
] as const) {
  t.equal(opaqueness(xattrs, inodeOf(dir({}, { opaque: value }))), want, `O1: opaque=${JSON.stringify(value)}`);
}
t.end();
