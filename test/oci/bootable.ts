/** Images to boot from, and the choice of xattrs: the digests of another program's merge by the same rules, and what is refused. */
import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Fields, member, ociFixtures, paxHeader } from '../fixtures/oci/archives.ts';
import { archiveOf, makeLayout, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { showSplitstream, withoutSplitstreams } from '../fixtures/oci/splitstreams.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { without } from '../fixtures/skips.ts';

const LARGE = 'x'.repeat(5000);
const dir = (name: string, fields: Fields = {}): Buffer =>
  member({ name, type: '5', mode: 0o755, mtime: 5, ...fields });
const file = (name: string, data: string | Buffer = '', fields: Fields = {}): Buffer =>
  member({ name, ...fields }, data);
const link = (name: string, linkname: string): Buffer => member({ name, type: '1', linkname });

const LAYERS: readonly (readonly Buffer[])[] = [
  [
    ...[paxHeader(['mtime', '1234567890.25'], ['SCHILY.xattr.user.a', 'of usr']), dir('usr/')],
    ...[paxHeader(['mtime', '99.75']), dir('boot/', { mode: 0o700, uid: 7 }), file('boot/vmlinuz', LARGE)],
    ...[dir('sysroot/'), dir('sysroot/ostree/'), link('usr/vmlinuz', 'boot/vmlinuz')],
    ...[paxHeader(['SCHILY.xattr.user.a', 'b'], ['SCHILY.xattr.user.overlay.x', '\xff']), file('usr/a', LARGE)],
    ...[paxHeader(['SCHILY.xattr.security.selinux', 'l'], ['SCHILY.xattr.trusted.t', 't']), file('usr/b', 'b')],
  ],
  [
    ...[paxHeader(['SCHILY.xattr.security.capability', 'c'], ['SCHILY.xattr.usera', 'no']), file('usr/c', LARGE)],
    ...[dir('run/'), file('run/lock'), file('boot/.wh.vmlinuz'), file('boot/initrd'), dir('etc/'), dir('etc/selinux/')],
  ],
];

t.test('the digests of another merge', { skip: without('python3') }, async t =>
  withScratch(home => {
    const at = (name: string): string => join(home, name);
    const archives = LAYERS.map((layer, i) => {
      writeFileSync(at(`layer-${i}.tar`), archiveOf(...layer));
      return at(`layer-${i}.tar`);
    });
    makeLayout(at('layout'), 'gzip', archives);
    const digests = new Set<string>();
    for (const [rules, ...flags] of [
      ['spec'],
      ['spec,bootable', '--bootable'],
      ['spec,user', '--xattrs=user'],
      ['spec,bootable,user', '--bootable', '--xattrs=user'],
      ['spec', '--xattrs=capability'],
    ] as const) {
      const merge = ['merge-layers.py', rules, at('objects'), ...archives] as const;
      writeFileSync(at('dump'), execFileSync('python3', [join(ociFixtures, merge[0]), ...merge.slice(1)]));
      const made = runCommand(['mkfs', '--from-file', '--min-version=1', '--print-digest-only', at('dump')]);
      const want = made.stdout.trim();
      digests.add(want);
      const words = ['pull', `oci:${at('layout')}`, '--store', at('store'), '--name=x', '--layers', '--expect', want];
      t.match(runCommand([...words, ...flags]), { status: 0, stderr: '' }, `${rules}: ${want}`);
      const layer = (number: number): string => at(`store/images/refs/x.layers/${number}`);
      const stack = `${layer(2)}:${layer(1)}::${at('store/objects')}`;
      const compared = runCommand(['compare', stack, `${at('store/images/refs/x')}::${at('store/objects')}`]);
      t.match(compared, { stdout: '', status: 0 }, `${rules}: the layers show the same`);
    }
    t.equal(digests.size, 4, 'each choice makes another image');
    if (withoutSplitstreams) return void t.pass('names of images', { skip: withoutSplitstreams });
    const streams = readdirSync(at('store/streams')).filter(name => name.startsWith('oci-config-'));
    const { names } = showSplitstream(at(`store/streams/${streams[0]}`));
    t.strictSame(
      names.map(name => name.replace(/^\d+:/, '')).filter(name => name.startsWith('composefs.')),
      // Source: composefs-rs, crates/composefs-oci/src/lib.rs, boot_image_ref_key
      ['composefs.image.boot.v1', 'composefs.image.boot.v1.xattrs=keep-user-xattrs', 'composefs.image.v1'],
      'images to boot from have names of their own',
    );
  }),
);

t.test('what is refused', async t =>
  withScratch(home => {
    const layout = join(home, 'layout');
    for (const [layer, message] of [
      [[dir('usr/'), dir('sysroot/')], 'the image is not bootable: it has no directory /boot'],
      [[dir('usr/'), dir('boot/'), file('sysroot')], 'the image is not bootable: it has no directory /sysroot'],
    ] as const) {
      writeIndex(layout, [writeImage(layout, [archiveOf(...layer)])]);
      const words = ['pull', `oci:${layout}`, '--store', join(home, 'store')];
      t.match(runCommand([...words, '--bootable']), { status: 1, stderr: new RegExp(`^lowerdata: ${message}`) });
      t.match(runCommand(words), { status: 0 }, 'no image to boot from');
    }
    const wrong = runCommand(['pull', 'oci:x', '--store=y', '--xattrs=all']);
    t.match(wrong, { status: 1, stderr: /--xattrs=all: capability or user/ });
  }),
);
t.end();
