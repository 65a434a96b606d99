/** Owners as they are shown and stored, by tables. */
import t from 'tap';
import { type OwnerOptions, Owners } from '../../src/driver/owners.ts';
import { statxAttr } from '../../src/sys/statx.ts';

const overflow = { uid: 65534, gid: 65533 };
/** What containers/storage sends for `podman run --userns=keep-id` of user 1001. */
const ranges = [
  { stored: 0, shown: 1, count: 1001 },
  { stored: 1001, shown: 0, count: 1 },
  { stored: 1002, shown: 1002, count: 64535 },
];
const keepId: OwnerOptions = { uids: { ranges }, gids: { ranges } };
const last: OwnerOptions = { uids: { ranges: [{ stored: 0, shown: 4294967290, count: 5 }] }, gids: {} };

type Pair = readonly [uid: number, gid: number];
const shown = (options: OwnerOptions, [uid, gid]: Pair): Pair => {
  const attr = new Owners(options, overflow).show({ ...statxAttr(1), uid, gid });
  return [attr.uid, attr.gid];
};
const stored = (options: OwnerOptions, [uid, gid]: Pair): Pair => {
  const owners = new Owners(options, overflow);
  return [owners.storedUid(uid), owners.storedGid(gid)];
};

for (const [rule, options, inLayer, inMount] of [
  ['the first id of a range', keepId, [0, 0], [1, 1]],
  ['the last id of a range', keepId, [1000, 1000], [1001, 1001]],
  ['a range of one id', keepId, [1001, 1001], [0, 0]],
  ['the last range', keepId, [1002, 65536], [1002, 65536]],
  ['an id may be that of another range on the other side', keepId, [1, 1001], [2, 0]],
  ['uids have their own ranges', { uids: { ranges }, gids: {} }, [0, 0], [1, 0]],
  ['so have groups', { uids: {}, gids: { ranges } }, [0, 0], [0, 1]],
  ['the largest ids', last, [4, 4294967294], [4294967294, 4294967294]],
] as const) {
  t.same(shown(options, inLayer), inMount, `${rule}: shown`);
  t.same(stored(options, inMount), inLayer, `${rule}: stored`);
}

for (const [rule, options, owner, wantShown, wantStored] of [
  ['ids past the last range', keepId, [65537, 65537], [65534, 65533], [65534, 65533]],
  ['an id after a short range', last, [5, 7], [65534, 7], [65534, 7]],
  ['one user', { uids: { squashed: 5 }, gids: {} }, [7, 8], [5, 8], [7, 8]],
  ['one user, and ranges', { uids: { squashed: 5, ranges }, gids: { ranges } }, [7, 8], [5, 9], [6, 7]],
  ['root and its group', { uids: { squashed: 0 }, gids: { squashed: 0 } }, [7, 8], [0, 0], [7, 8]],
] as const) {
  t.same(shown(options, owner), wantShown, `${rule}: shown`);
  t.same(stored(options, owner), wantStored, `${rule}: stored`);
}

for (const [rule, options, want] of [
  ['ranges', keepId, false],
  ['one user', { uids: { squashed: 0 }, gids: {} }, true],
  ['one group', { uids: {}, gids: { squashed: 5 } }, true],
] as const)
  t.equal(new Owners(options, overflow).areSquashed, want, `owners are squashed: ${rule}`);

/** An ACL as its xattr has it: user::rw-, user:UID:r--, group::r--, group:GID:r--, mask::r--, other::r--. Source: linux/posix_acl_xattr.h. */
const acl = (uid: string, gid: string): Buffer =>
  Buffer.from(
    `02000000 01000600ffffffff 02000400${uid} 04000400ffffffff 08000400${gid} 10000400ffffffff 20000400ffffffff`.replaceAll(
      ' ',
      '',
    ),
    'hex',
  );

const owners = new Owners({ ...keepId, gids: { squashed: 7, ranges } }, overflow);
t.same(
  owners.showAcl(acl('e9030000', 'e8030000')),
  acl('00000000', 'e9030000'),
  'ids of an ACL, which are not squashed',
);
const given = acl('00000000', 'e9030000');
t.same(Buffer.from(owners.storedAcl(given)), acl('e9030000', 'e8030000'), 'ids of an ACL to store');
t.same(given, acl('00000000', 'e9030000'), 'the given bytes stay');
t.same(owners.showAcl(acl('ffffff7f', '00000001')), acl('feff0000', 'fdff0000'), 'ids of an ACL that are in no range');
for (const bytes of [0, 4, 11, 13]) {
  const cut = acl('e9030000', 'e8030000').subarray(0, bytes);
  t.same(owners.showAcl(Buffer.from(cut)), cut, `an ACL of ${bytes} bytes is left alone`);
}
t.end();
