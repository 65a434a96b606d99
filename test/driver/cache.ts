import t from 'tap';
import { cachePolicy, memoryFor } from '../../src/driver/cache.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';
import { plainDriver, plainOptions } from '../fixtures/layers.ts';

const directory = new Overlay([new FakeLayer('A', dir())], [], plainOptions);
const image = new Overlay([Object.assign(new FakeLayer('A', dir()), { kind: 'image' })], [], plainOptions);
const ever = Number.POSITIVE_INFINITY;

const asksToOpen = true;
for (const [rule, overlay, options, entrySeconds, attrSeconds, negativeSeconds] of [
  ['images: everything for ever', image, {}, ever, ever, ever],
  ['directories: attributes for half a minute', directory, {}, ever, 30, ever],
  ['attributes as told', directory, { attrTimeout: 7.5 }, ever, 7.5, ever],
  ['attributes of images as told', image, { attrTimeout: 0 }, ever, 0, ever],
  ['names as told', image, { entryTimeout: 2 }, 2, ever, ever],
  ['misses as told', image, { negativeTimeout: 0 }, ever, ever, 0],
] as const) {
  t.same(
    cachePolicy(overlay, { ...plainDriver, ...options }),
    { entrySeconds, attrSeconds, negativeSeconds, asksToOpen },
    rule,
  );
}
t.equal(cachePolicy(image, { ...plainDriver, opens: 'none' }).asksToOpen, false, 'files as told');
for (const [rule, options, dentries, attrSeconds, entrySeconds, negativeSeconds] of [
  ['what an overlay remembers by default', {}, 65_536, 30, ever, ever],
  ['no more dentries than told', { dentries: 0 }, 0, 30, ever, ever],
  ['attributes as long as the kernel', { attrTimeout: 2 }, 65_536, 2, ever, ever],
  ['names as long as the kernel', { entryTimeout: 3 }, 65_536, 30, 3, ever],
  ['misses as long as the kernel', { negativeTimeout: 0 }, 65_536, 30, ever, 0],
] as const) {
  t.same(memoryFor({ ...plainDriver, ...options }), { dentries, attrSeconds, entrySeconds, negativeSeconds }, rule);
}
t.end();
