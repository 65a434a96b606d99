import t from 'tap';
import { Directories } from '../../src/driver/directories.ts';
import type { Nodeid } from '../../src/fuse/filesystem.ts';
import { type Listing, NumberedListing } from '../../src/overlay/listing.ts';

const id = (nodeid: number): Nodeid => nodeid as Nodeid;
const sized = (bytes: number): Listing => ({ bytes, from: () => {} });
const x = new NumberedListing([{ name: 'x', dtype: 8 }]);
const never = (): Listing => {
  throw new Error('made again');
};

const directories = new Directories();
t.equal(
  directories.listing(id(5), false, () => x),
  x,
  'a listing is made when it is first asked for',
);
t.equal(directories.listing(id(5), false, never), x, 'and kept by the node');
const y = sized(1);
let before: Listing | undefined;
directories.listing(id(5), true, older => {
  before = older;
  return y;
});
t.equal(before, x, 'a newer one is made from the older one');
t.equal(directories.listing(id(5), false, never), y, 'and takes its place');
directories.forget(id(5));
t.equal(
  directories.listing(id(5), false, older => older ?? x),
  x,
  'a node that the kernel has forgotten has none',
);

const made = (nodeid: number, bytes: number): boolean => {
  let isMade = false;
  directories.listing(id(nodeid), false, () => {
    isMade = true;
    return sized(bytes);
  });
  return isMade;
};
const MEBIBYTE = 1 << 20;
for (let nodeid = 10; nodeid < 74; nodeid++) made(nodeid, MEBIBYTE);
t.notOk(made(73, MEBIBYTE), 'listings of 64 MiB are kept');
t.ok(made(5, 1), 'but not without a bound');
made(80, 1000 * MEBIBYTE);
t.notOk(made(80, 1000 * MEBIBYTE), 'one that is larger than the bound is kept');
t.ok(made(73, MEBIBYTE), 'and no other beside it');
made(90, 0);
t.ok(made(90, 0), 'one that takes no memory is not worth keeping');
t.end();
