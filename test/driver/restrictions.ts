/** Proves src/driver/restrictions.ts. */
import t from 'tap';
import { restrictionsOf } from '../../src/driver/restrictions.ts';
import type { Layer } from '../../src/layers/layer.ts';
import type { Statfs } from '../../src/sys/stat.ts';

/** ST_NOSUID, ST_NODEV, ST_NOEXEC. Source: linux/statfs.h. */
const [SUID, DEV, EXEC] = [2, 4, 8];

const digest = { imageDigest: 'ab'.repeat(32) };
const named = (givesDigest: boolean) => ({ ...digest, stored: { store: 'S', name: 'N', givesDigest } });
/** What restrictions look at: an image, or a directory with the flags of its mount. */
const layer = (flags: number | 'image'): Layer =>
  ({
    kind: flags === 'image' ? 'image' : 'directory',
    path: String(flags),
    statfs: (): Partial<Statfs> => (flags === 'image' ? {} : { flags }),
  }) as Layer;

for (const [rule, stack, layers, want] of [
  ['an image makes no devices', {}, ['image'], 'nodev'],
  ['one that a digest names does', digest, ['image'], ''],
  ['one that only a name in a repository has does not', named(true), ['image'], 'nodev'],
  ['one in a repository by its digest does', named(false), ['image'], ''],
  ['the digest is that of the top image alone', digest, ['image', 'image'], 'nodev'],
  ['only root makes a device in a directory', {}, [0], ''],
  ['a directory below an image that is named', digest, ['image', 0], ''],
  ['a directory above an image', {}, [0, 'image'], 'nodev'],
  ['the mount of a directory', {}, [DEV], 'nodev'],
  ['any of them', {}, [0, SUID, EXEC], 'nosuid noexec'],
  ['all of it', {}, [SUID | DEV | EXEC], 'nosuid nodev noexec'],
  ['each once', {}, ['image', DEV, DEV], 'nodev'],
  ['other flags mean nothing', {}, [1 | 0x20 | 0x400 | 0x1000], ''],
] as const) {
  const found = restrictionsOf(stack, {}, layers.map(layer));
  t.equal(found.map(({ flag }) => flag).join(' '), want, rule);
}
t.same(restrictionsOf({}, { lifted: ['nodev'] }, [layer('image')]), [], 'what is lifted does not hold');
t.match(restrictionsOf({}, {}, [layer('image')])[0]?.why, /image image/, 'the layer is named');
t.end();
