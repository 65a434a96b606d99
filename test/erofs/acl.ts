import t from 'tap';
import { mayHaveAcl } from '../../src/erofs/acl.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { type CraftedInode, craft, type Xattr } from '../fixtures/images/craft.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';

const access: Xattr = [f.XATTR_INDEX_POSIX_ACL_ACCESS, '', '\x02\0\0\0'];
const preset: Xattr = [f.XATTR_INDEX_POSIX_ACL_DEFAULT, '', '\x02\0\0\0'];
const user: Xattr = [f.XATTR_INDEX_USER, 'a', 'b'];

/** root -> d -> file */
const imageOf = (
  root: Partial<CraftedInode>,
  d: Partial<CraftedInode>,
  file: Partial<CraftedInode>,
  shared: Xattr[] = [],
) =>
  openImage(
    craft({
      blockBits: 9,
      shared,
      inodes: [
        directory([['d', 1, f.FT_DIR]], root),
        directory([['file', 2, f.FT_REG_FILE]], d),
        regular({ data: Buffer.from('x'), ...file }),
      ],
    }),
  );

for (const [rule, image, want] of [
  ['nothing has an ACL', imageOf({}, {}, {}), false],
  ['other xattrs are none', imageOf({ xattrs: [user] }, { xattrs: [user] }, { xattrs: [user] }), false],
  ['one of the root', imageOf({ xattrs: [access] }, {}, {}), true],
  ['one of a directory', imageOf({}, { xattrs: [user, access] }, {}), true],
  ['one of a file', imageOf({}, {}, { xattrs: [access] }), true],
  ['a default ACL', imageOf({}, { xattrs: [preset] }, {}), true],
  ['one that is shared', imageOf({}, {}, { shared: [1] }, [user, access]), true],
  ['one that nothing refers to', imageOf({}, {}, { shared: [0] }, [user, access]), false],
  ['a directory that cannot be read', imageOf({}, { sizeBytes: 1 << 30 }, {}), true],
  ['a directory that holds itself and the root', loop(), false],
] as const) {
  t.equal(mayHaveAcl(image), want, rule);
}
t.end();

function loop() {
  const inner = directory([
    ['itself', 1, f.FT_DIR],
    ['root', 0, f.FT_DIR],
  ]);
  return openImage(craft({ blockBits: 9, inodes: [directory([['d', 1, f.FT_DIR]]), inner] }));
}
