/** Proves src/sys/counters.ts. */
import { LRUCache } from 'lru-cache';
import t from 'tap';
import { CacheCounts, type Counters, count, newCounters } from '../../src/sys/counters.ts';

t.test('numbers are added to', async t => {
  const counters = newCounters(3);
  t.strictSame([...counters], [0, 0, 0], 'from nothing');
  count(counters, 1);
  count(counters, 1, 41);
  count(counters, 2, -1);
  t.strictSame([...counters], [0, 42, -1]);
});

t.test('of a cache', async t => {
  const counts = new CacheCounts();
  const cache = new LRUCache<string, string>({ max: 2, maxSize: 100, sizeCalculation: text => text.length });
  const none = { hits: 0, misses: 0, entries: 0, entriesMax: 0, bytes: 0, bytesMax: 0 };
  const read = (counters: Counters = counts.counters) => CacheCounts.read(counters);
  t.strictSame(read(), none, 'before it is told');
  counts.holds(cache);
  t.strictSame(read(), { ...none, entriesMax: 2, bytesMax: 100 });
  for (const key of ['a', 'b', 'c']) cache.set(key, 'four');
  counts.holds(cache);
  for (const key of ['a', 'b', 'c', 'c']) counts.asked(cache.get(key) !== undefined);
  t.strictSame(read(), { hits: 3, misses: 1, entries: 2, entriesMax: 2, bytes: 8, bytesMax: 100 });
});
t.end();
