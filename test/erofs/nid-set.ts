import t from 'tap';
import type { Nid } from '../../src/erofs/format.ts';
import { NidSet } from '../../src/erofs/nid-set.ts';
import type { Image } from '../../src/erofs/superblock.ts';

const set = new NidSet({ sizeBytes: 4096 + 20 * 32, metaAt: 4096 } as Image);
t.equal(set.slots, 20);
for (const nid of [0, 7, 8, 19] as Nid[])
  t.same([set.has(nid), set.add(nid), set.add(nid), set.has(nid)], [false, true, false, true]);
t.same(
  Array.from({ length: 20 }, (_, nid) => nid).filter(nid => set.has(nid)),
  [0, 7, 8, 19],
);
for (const nid of [24, 2 ** 40] as Nid[])
  t.same([set.add(nid), set.add(nid)], [true, true], 'nids outside the image stay new');
