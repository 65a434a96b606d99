import t from 'tap';
import { DEFAULT_MEMORY, DentryCache } from '../../src/overlay/cache.ts';
import type { Node } from '../../src/overlay/node.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { CacheCounts } from '../../src/sys/counters.ts';
import { ENOENT } from '../../src/sys/errno.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';
import { plainOptions } from '../fixtures/layers.ts';

const { root } = new Overlay([new FakeLayer('A', dir())], [], plainOptions);
const node = (ino: number): Node => ({ ...root, ino });
const [a, b, child] = [node(1), node(11), node(3)];
const cacheOf = (dentries: number): DentryCache => new DentryCache({ ...DEFAULT_MEMORY, dentries });
const cache = cacheOf(3);

t.equal(cache.get(a, 'x'), undefined, 'a name that was never set is not known');
cache.set(a, 'x', child);
cache.set(a, 'gone', -ENOENT);
t.equal(cache.get(a, 'x'), child, 'a name that was set is known');
t.equal(cache.get(a, 'gone'), -ENOENT, 'a miss is remembered as its errno');
t.equal(cache.get(b, 'x'), undefined, 'the same name in another directory is another dentry');
t.equal(cache.get({ ...a }, 'x'), child, 'a directory is known by its number');
cache.set(a, '1/x', child);
t.equal(cache.get(node(1), '1/x'), child, 'numbers and names do not run together');
t.equal(cache.get(b, 'x'), undefined, 'numbers and names do not run together, the other way');
t.match(
  CacheCounts.read(cache.counts.counters),
  { hits: 4, misses: 3, entries: 3, entriesMax: 3 },
  'every question counts as a hit or a miss',
);

cache.get(a, 'x');
cache.set(b, 'new', child);
t.equal(cache.get(a, 'gone'), undefined, 'past the bound the one used longest ago goes');
t.equal(cache.get(a, 'x'), child, 'and not the one that was just used');

t.test('bytes count, too', async t => {
  const bounded = cacheOf(10);
  const deep: Node = { ...root, ino: 4, stack: Array.from({ length: 64 }, () => root.top) };
  bounded.set(a, 'plain', child);
  const plain = bounded.bytes;
  t.ok(plain > 0 && plain <= 600, 'a plain one is small');
  bounded.set(a, 'gone', -ENOENT);
  t.equal(bounded.bytes - plain, plain, 'a miss takes a place as well');
  bounded.set(a, 'n'.repeat(255), child);
  t.ok(bounded.bytes > 2 * plain + 200, 'a long name counts');
  bounded.set(a, 'deep', deep);
  t.equal(bounded.get(a, 'deep'), undefined, 'a directory of 64 layers has no room among ten plain ones');
  const wide = cacheOf(100);
  for (let i = 0; i < 100; i++) wide.set(a, `d${i}`, deep);
  t.ok(wide.count > 1 && wide.count < 100, 'of such directories there are fewer');
  t.ok(wide.bytes <= 100 * 600, 'so that the whole keeps its bound');
});
t.end();
