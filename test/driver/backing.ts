/** When passthrough is tried and when it is given up. That the kernel then reads by itself is shown in test/mount/. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Backing } from '../../src/driver/backing.ts';
import { FIRST_NODEID as FIRST } from '../../src/driver/nodes.ts';
import type { Nodeid } from '../../src/fuse/filesystem.ts';
import { FileData } from '../../src/layers/file-data.ts';
import type { Data } from '../../src/layers/layer.ts';
import { scratch } from '../fixtures/layers.ts';
import { openOrThrow } from '../fixtures/native.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const O_RDWR = 2;
const inImage: Data = {
  fd: -1,
  place: 'an image',
  sizeBytes: 0,
  version: '',
  read: () => 0,
  seek: () => 0,
  close() {},
};

t.test('passthrough', { skip: withoutFuse }, async t => {
  const path = join(scratch(t), 'file');
  writeFileSync(path, 'x');
  const data = new FileData(openOrThrow(path), '/', path);
  const unmounted = openOrThrow('/dev/fuse', O_RDWR); // the kernel refuses it as it refuses who may not: EPERM
  const notFuse = openOrThrow(path);
  t.teardown(() => {
    for (const one of [data, new FileData(unmounted, '/', path), new FileData(notFuse, '/', path)]) one.close();
  });

  for (const [rule, session, enabled, asked, lines] of [
    ['switched off: never tried', unmounted, false, [data, data], 0],
    ['data in an image has no file to hand over', unmounted, true, [inImage, inImage], 0],
    ['EPERM gives it up, and says so once', unmounted, true, [inImage, data, data, data], 1],
    ['another errno is about one file, and is no message', notFuse, true, [data, data], 0],
  ] as const) {
    const log: string[] = [];
    const backing = new Backing(session, enabled, line => void log.push(line));
    const ids = asked.map(one => backing.open(one, FIRST as Nodeid));
    t.same(new Set(ids), new Set([0]), `${rule}: reads come to us`);
    t.equal(log.length, lines, rule);
    if (lines > 0) t.match(log[0], /no passthrough: Operation not permitted/);
    for (const id of ids) backing.close(id, FIRST as Nodeid);
  }
});
t.end();
