/** Proves src/driver/activity.ts, and that files and names are counted as what happens to them says. */
import { utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Activity, activityOf } from '../../src/driver/activity.ts';
import { Backing } from '../../src/driver/backing.ts';
import { Files, type OpenReply } from '../../src/driver/files.ts';
import { OverlayFilesystem } from '../../src/driver/filesystem.ts';
import { type Nodeid, ROOT } from '../../src/fuse/filesystem.ts';
import { RequestCounts } from '../../src/fuse/request-counts.ts';
import { EntryOut } from '../../src/fuse/wire/abi.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import type { Check } from '../../src/overlay/verifier.ts';
import { getU64 } from '../../src/sys/bytes.ts';
import { dir, file, meta } from '../fixtures/fake-layer.ts';
import { metacopyOf } from '../fixtures/images/verity.ts';
import { nodeAt, openStack, plant, scratch } from '../fixtures/layers.ts';
import { withoutRoot } from '../fixtures/skips.ts';

class GrantingBacking extends Backing {
  private next = 1;
  override open(): number {
    return this.next++;
  }
  override close(): void {}
}

/** A filesystem over an overlay, and the numbers that others are given of it. */
class Served {
  readonly overlay: Overlay;
  readonly files: Files;
  readonly fs: OverlayFilesystem;
  private readonly out = { bytes: new Uint8Array(4096), view: new DataView(new ArrayBuffer(4096)) };

  constructor(overlay: Overlay, grants: boolean) {
    const backing = grants ? new GrantingBacking(-1, true, () => {}) : new Backing(-1, false, () => {});
    this.overlay = overlay;
    this.files = new Files(overlay, backing, { idleMax: 2, verify: 'open' });
    const cache = { entrySeconds: 1, attrSeconds: 1, negativeSeconds: 1, asksToOpen: true };
    this.fs = new OverlayFilesystem(overlay, this.files, cache, { acl: false, trusted: false });
  }

  get activity(): Activity {
    const { files, fs } = this;
    const counters = { files: files.counters, names: fs.counters, caches: fs.caches };
    return structuredClone(activityOf({ requests: new RequestCounts().counters, ...counters }));
  }

  lookup(name: string): Nodeid {
    this.fs.lookup(ROOT, name, this.out);
    return getU64(this.out.view, EntryOut.nodeid) as Nodeid;
  }

  nodeid(name: string): Nodeid {
    return (nodeAt(this.overlay, `/${name}`).ino + 2) as Nodeid;
  }

  /** Opens a file of the root. */
  open(name: string): OpenReply {
    return this.files.open(this.nodeid(name), nodeAt(this.overlay, `/${name}`)) as OpenReply;
  }

  openAndClose(name: string): void {
    this.files.release(this.open(name).handle);
  }
}

/** `good` and `wrong` have digests of the object `o`, which is not what `wrong` says; `plain` has none. */
function placed(t: Test): { object: string; overlay: Overlay } {
  const home = scratch(t);
  const object = join(home, 'C', 'o');
  plant(join(home, 'C'), dir({ o: file('12345') }));
  plant(
    join(home, 'A'),
    dir({
      good: file('12345', { metacopy: metacopyOf(object).toString('latin1'), redirect: '/o' }),
      wrong: meta({ metacopy: `\0\x24\0\x01${'x'.repeat(32)}`, redirect: '/o' }),
      plain: file('plain'),
    }),
  );
  return { object, overlay: openStack(t, `${home}/A::${home}/C`, { verity: 'on' }) };
}

t.test('checks, by what came of them', { skip: withoutRoot }, async t => {
  const { object, overlay } = placed(t);
  const served = new Served(overlay, true);
  const checks = { measured: 0, remembered: 0, byKernel: 0, failed: 0 };
  t.strictSame(served.activity.checks, checks, 'none yet');
  served.openAndClose('plain');
  t.strictSame(served.activity.checks, checks, 'nothing to check');
  served.openAndClose('good');
  t.strictSame(served.activity.checks, { ...checks, measured: 1 });
  served.openAndClose('good');
  t.strictSame(served.activity.checks, { ...checks, measured: 1, remembered: 1 }, 'by the file that is kept');
  served.files.drop(served.nodeid('good'));
  served.openAndClose('good');
  t.strictSame(served.activity.checks, { ...checks, measured: 1, remembered: 2 }, 'by its digest');
  for (let i = 0; i < 3; i++) t.throws(() => served.open('wrong'), { name: 'EIO' });
  t.strictSame(served.activity.checks, { ...checks, measured: 1, remembered: 2, failed: 3 });
  utimesSync(object, 1, 1);
  served.openAndClose('good');
  t.strictSame(served.activity.checks, { ...checks, measured: 2, remembered: 2, failed: 3 }, 'another version');
  t.match(
    served.activity.caches.digests,
    { hits: 4, misses: 2, entries: 1 },
    'a digest that is remembered tells of a wrong one, too',
  );
  writeFileSync(object, '54321');
  t.throws(() => served.open('good'), { name: 'EIO' });
  t.equal(served.activity.checks.failed, 4, 'data that has changed');
});

/** An overlay whose kernel has measured every object. */
class Guarded extends Overlay {
  override check(...args: Parameters<Overlay['check']>): Check | undefined {
    const check = super.check(...args);
    if (check) check.known = () => check.learn({ digest: check.digest, byKernel: true });
    return check;
  }
}

t.test('checks by the kernel', { skip: withoutRoot }, async t => {
  const { layers, dataLayers, options } = placed(t).overlay;
  const served = new Served(new Guarded(layers, dataLayers, options), true);
  served.openAndClose('good');
  t.strictSame(served.activity.checks, { measured: 0, remembered: 0, byKernel: 1, failed: 0 });
});

t.test('what is open, and what was', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const names = Array.from({ length: 5 }, (_, i) => `f${i}`);
  plant(join(home, 'A'), dir(Object.fromEntries(names.map(name => [name, file(name)]))));
  for (const [rule, grants] of [
    ['with passthrough', true],
    ['without', false],
  ] as const) {
    const served = new Served(openStack(t, join(home, 'A')), grants);
    const open = (): unknown => ({ ...served.activity.open, ...served.activity.caches.files });
    const handles = [...names, ...names].map(name => served.open(name).handle);
    const backings = grants ? 5 : 0;
    t.match(open(), { handles: 10, backings, hits: 5, misses: 5, entries: 0, entriesMax: 2 }, `${rule}: each twice`);
    for (const handle of handles) served.files.release(handle);
    t.match(open(), { handles: 0, backings: grants ? 2 : 0, entries: 2 }, `${rule}: two are kept`);
    served.openAndClose('f4');
    served.openAndClose('f0');
    t.match(open(), { handles: 0, hits: 6, misses: 6, entries: 2 }, `${rule}: one of which is there again`);
    served.files.drop(served.nodeid('f0'));
    t.match(open(), { backings: grants ? 1 : 0, entries: 1 }, `${rule}: the kernel has forgotten it`);
    served.files.close();
  }
});

t.test('names', { skip: withoutRoot }, async t => {
  const { overlay } = placed(t);
  const served = new Served(overlay, false);
  const numbers = (): unknown => ({
    ...served.activity.caches.dentries,
    ...served.activity.open,
    m: served.activity.missing,
  });
  for (let i = 0; i < 4; i++) for (const name of ['plain', 'good', 'none']) served.lookup(name);
  t.match(numbers(), { hits: 9, misses: 3, entries: 3, nodes: 2, m: 4 });
  served.fs.forget(served.lookup('plain'), 5);
  t.match(numbers(), { entries: 3, nodes: 1 }, 'the kernel has forgotten one, the cache has not');
});
t.end();
