import t from 'tap';
import { Directories } from '../../src/driver/directories.ts';
import type { Nodeid } from '../../src/fuse/ops.ts';

const directories = new Directories();
const [a, b] = [directories.add(), directories.add()];
t.not(a, b, 'each open has a handle of its own');
const open = directories.get(a);
t.same(open, { entries: undefined }, 'nothing is listed before the first read');
if (open) open.entries = [{ name: 'x', dtype: 8 }];
t.same(directories.get(a)?.entries, [{ name: 'x', dtype: 8 }], 'D4: a listing stays with its handle');
t.equal(directories.get(b)?.entries, undefined, 'and with no other');
directories.release(a);
t.equal(directories.get(a), undefined, 'a released handle is none');
directories.release(a);
t.ok(directories.get(b), 'releasing it again is nothing to the others');
t.equal(directories.get(0), undefined, 'nor is a handle that never was');
t.notOk([a, b].includes(directories.add()), 'handles are not used again');

const unopened = directories.unopened(5 as Nodeid);
unopened.entries = [{ name: 'y', dtype: 4 }];
t.equal(directories.unopened(5 as Nodeid), unopened, 'what was not opened is kept by its node');
t.equal(directories.unopened(6 as Nodeid).entries, undefined, 'each for itself');
for (let nodeid = 10; nodeid < 1000; nodeid++) directories.unopened(nodeid as Nodeid);
t.not(directories.unopened(5 as Nodeid), unopened, 'and not without a bound');
t.end();
