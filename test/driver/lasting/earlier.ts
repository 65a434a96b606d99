/** The backing ids that one server leaves to the next. */
import { fstatSync } from 'node:fs';
import t from 'tap';
import { BackingLedger } from '../../../src/driver/lasting/earlier.ts';
import type { Nodeid } from '../../../src/fuse/filesystem.ts';
import { must } from '../../../src/sys/errno.ts';
import { native } from '../../../src/sys/native.ts';

t.test('ids are handed on, and their places used again', async t => {
  const fd = must(native.memoryFile('ledger'), 'memfd');
  const first = new BackingLedger(fd);
  t.equal(first.firstHandle, 1);
  t.same(first.read(), new Map());
  for (const id of [5, 6, 7]) first.add(id, (2 ** 40 + id) as Nodeid);
  first.remove(6);
  first.remove(99);

  const second = new BackingLedger(fd);
  t.ok(second.firstHandle > 2 ** 31, 'its handles are none of the first server');
  const left = new Map([
    [2 ** 40 + 5, 5],
    [2 ** 40 + 7, 7],
  ]);
  t.same(second.read(), left);
  const { size } = fstatSync(fd);
  second.add(8, 8 as Nodeid);
  t.equal(fstatSync(fd).size, size, 'the place of a removed id is taken');
  for (let id = 9; id < 1000; id++) {
    second.add(id, id as Nodeid);
    second.remove(id);
  }
  t.ok(fstatSync(fd).size <= size + 16, 'the file grows with the ids that are in use, not with all that ever were');
  t.same(new BackingLedger(fd).read(), new Map([...left, [8, 8]]));
  native.close(fd);
});
t.end();
