import fc from 'fast-check';
import t from 'tap';
import { missingXattr, OverlayXattrs } from '../../src/overlay/xattrs.ts';
import { EINVAL, ENODATA, EOPNOTSUPP } from '../../src/sys/errno.ts';

const trusted = new OverlayXattrs(false);
const user = new OverlayXattrs(true);
/** A name of so many bytes in all. */
const long = (prefix: string, bytes: number): string => prefix + 'x'.repeat(bytes - prefix.length);
const XATTR_NAME_MAX = 255;
const ESCAPE_BYTES = 'overlay.'.length;

for (const [rule, xattrs, stored, want] of [
  ['X1: the marks are hidden', trusted, 'trusted.overlay.opaque', undefined],
  ['X1: all of them', trusted, 'trusted.overlay.zzz', undefined],
  ['X1: the bare prefix, too', trusted, 'trusted.overlay.', undefined],
  ['X1: an escaped one loses one level', trusted, 'trusted.overlay.overlay.opaque', 'trusted.overlay.opaque'],
  ['X1: and one only', trusted, 'trusted.overlay.overlay.overlay.x', 'trusted.overlay.overlay.x'],
  ['X1: without the dot it is another name', trusted, 'trusted.overlay', 'trusted.overlay'],
  ['X1: a longer word is another name', trusted, 'trusted.overlayfs.x', 'trusted.overlayfs.x'],
  ['X1: the escape needs its dot', trusted, 'trusted.overlay.overlayx', undefined],
  ['X3: user.* is shown', trusted, 'user.overlay.opaque', 'user.overlay.opaque'],
  ['X3: ACLs are shown', trusted, 'system.posix_acl_access', 'system.posix_acl_access'],
  ['X4: with userxattr user.overlay.* is hidden', user, 'user.overlay.redirect', undefined],
  ['X4: and unescaped', user, 'user.overlay.overlay.redirect', 'user.overlay.redirect'],
  ['X4: and trusted.overlay.* shown as it is', user, 'trusted.overlay.redirect', 'trusted.overlay.redirect'],
] as const) {
  t.equal(xattrs.shown(stored), want, rule);
}

for (const [rule, xattrs, requested, want] of [
  ['X2: a mark is looked for one level deeper', trusted, 'trusted.overlay.opaque', 'trusted.overlay.overlay.opaque'],
  ['X2: so is an escaped one', trusted, 'trusted.overlay.overlay.x', 'trusted.overlay.overlay.overlay.x'],
  ['X2: the bare prefix is EINVAL', trusted, 'trusted.overlay.', -EINVAL],
  ['X2: without the dot it is another name', trusted, 'trusted.overlay', 'trusted.overlay'],
  ['the bare prefix of a namespace is EINVAL', trusted, 'user.', -EINVAL],
  ['also of another one', trusted, 'trusted.', -EINVAL],
  ['also with userxattr', user, 'security.', -EINVAL],
  ['a namespace needs its dot', trusted, 'user', 'user'],
  [
    'X2: the longest name with room for the escape',
    trusted,
    long('trusted.overlay.', XATTR_NAME_MAX - ESCAPE_BYTES),
    long('trusted.overlay.overlay.', XATTR_NAME_MAX),
  ],
  [
    'X2: one byte more is EOPNOTSUPP',
    trusted,
    long('trusted.overlay.', XATTR_NAME_MAX - ESCAPE_BYTES + 1),
    -EOPNOTSUPP,
  ],
  ['X3: another name may have all 255 bytes', trusted, long('user.', XATTR_NAME_MAX), long('user.', XATTR_NAME_MAX)],
  ['X3: user.overlay.* is passed through', trusted, 'user.overlay.x', 'user.overlay.x'],
  ['X4: with userxattr user.overlay.* is escaped', user, 'user.overlay.x', 'user.overlay.overlay.x'],
  ['X4: its bare prefix is EINVAL', user, 'user.overlay.', -EINVAL],
  ['X4: and trusted.overlay.* passed through', user, 'trusted.overlay.x', 'trusted.overlay.x'],
] as const) {
  t.equal(xattrs.stored(requested), want, rule);
}

for (const [name, want] of [
  ['user.a', -ENODATA],
  ['trusted.a', -ENODATA],
  ['security.a', -ENODATA],
  ['system.posix_acl_access', -ENODATA],
  ['system.posix_acl_default', -ENODATA],
  ['system.posix_acl_other', -EOPNOTSUPP],
  ['system.a', -EOPNOTSUPP],
  ['system.', -EOPNOTSUPP],
  ['user', -EOPNOTSUPP],
  ['User.a', -EOPNOTSUPP],
  ['other.a', -EOPNOTSUPP],
  ['', -EOPNOTSUPP],
] as const) {
  t.equal(missingXattr(name), want, `a missing ${name}`);
}

for (const [xattrs, prefix] of [
  [trusted, 'trusted.overlay.'],
  [user, 'user.overlay.'],
] as const) {
  const { opaque, redirect, metacopy, origin, whiteout } = xattrs;
  const names = ['opaque', 'redirect', 'metacopy', 'origin', 'whiteout'].map(name => prefix + name);
  t.strictSame([opaque, redirect, metacopy, origin, whiteout], names, `the marks are ${prefix}*`);
}

const names = fc
  .tuple(
    fc.constantFrom('trusted.', 'user.', 'trusted.overlay.', 'user.overlay.', 'trusted.overlay.overlay.'),
    fc.string({ maxLength: 20 }),
  )
  .map(([prefix, rest]) => prefix + rest);
const isBare = (xattrs: OverlayXattrs, name: string): boolean => [xattrs.prefix, 'user.', 'trusted.'].includes(name);
for (const xattrs of [trusted, user]) {
  fc.assert(
    fc.property(names, name => {
      const stored = xattrs.stored(name);
      return typeof stored === 'number' ? isBare(xattrs, name) : xattrs.shown(stored) === name;
    }),
  );
  fc.assert(
    fc.property(names, name => {
      const shown = xattrs.shown(name);
      return shown === undefined || isBare(xattrs, shown) || xattrs.stored(shown) === name;
    }),
  );
}
t.pass('X1, X2: a name that can be asked for is listed under the same name, and the other way round');
t.end();
