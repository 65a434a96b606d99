import { readFileSync } from 'node:fs';
import t from 'tap';
import { Nodes, RecalledNodes } from '../../src/driver/nodes.ts';
import { type Nodeid, ROOT } from '../../src/fuse/ops.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Node } from '../../src/overlay/node.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { dir, FakeLayer, file, link } from '../fixtures/fake-layer.ts';
import { goldenImages } from '../fixtures/golden-images.ts';
import { nodeAt, plainOptions } from '../fixtures/layers.ts';

const overlay = new Overlay([new FakeLayer('A', dir({ f: file(), g: file(), l: link('f') }))], [], plainOptions);
const { root } = overlay;
const [f, g, l] = ['/f', '/g', '/l'].map(path => nodeAt(overlay, path)) as [Node, Node, Node];
const id = (n: number): Nodeid => n as Nodeid;

t.test('nodeids', async t => {
  const nodes = new Nodes(root);
  t.equal(nodes.idOf(root), ROOT, 'the root is 1');
  t.equal(nodes.idOf({ ...f, ino: 0 }), 2, 'no other is 0 or 1');
  t.equal(nodes.idOf(f), f.ino + 2, 'any other is its st_ino and two');
  t.equal(nodes.idOf({ ...g, ino: f.ino }), nodes.idOf(f), 'the names of a hard link share it');
  t.equal(nodes.get(ROOT), root, 'the root is known from the start');
  t.equal(nodes.get(nodes.idOf(f)), undefined, 'nothing else is');
  t.equal(nodes.get(id(0)), undefined, 'nor 0');
});

t.test('lookups are counted', async t => {
  const nodes = new Nodes(root);
  const at = nodes.idOf(f);
  for (let i = 0; i < 3; i++) nodes.remember(f);
  nodes.remember(root);
  t.equal(nodes.size, 1, 'the root needs no count');
  for (const [rule, nodeid, count, forgotten, known] of [
    ['a part of them', at, 2, false, f],
    ['of a nodeid that was never given', id(999), 1, false, f],
    ['of the root', ROOT, 1_000_000, false, f],
    ['the rest', at, 1, true, undefined],
    ['again', at, 1, false, undefined],
  ] as const) {
    t.equal(nodes.forget(nodeid, count), forgotten, `forget ${rule}: forgotten is ${forgotten}`);
    t.equal(nodes.get(at), known, `forget ${rule}: and then`);
  }
  t.equal(nodes.get(ROOT), root, 'the root is never forgotten');
  nodes.remember(g);
  t.equal(nodes.forget(nodes.idOf(g), 2 ** 40), true, 'more than there were is all');
  t.equal(nodes.size, 0, 'nothing is kept');
});

t.test('A7, I4: an inode keeps the stack and data it got first', async t => {
  const nodes = new Nodes(root);
  const again: Node = { ...f, data: '/elsewhere' };
  t.equal(nodes.canonical(f), f, 'a node that is not known is itself');
  nodes.remember(f);
  t.equal(nodes.canonical(again), f, 'the one that the kernel knows wins');
  t.equal(nodes.canonical({ ...root, stack: [] }), root, 'so does the root');
  const reused: Node = { ...l, ino: f.ino };
  t.equal(nodes.canonical(reused), reused, 'but not with another type: the number was used again');
  nodes.remember(reused);
  t.equal(nodes.get(nodes.idOf(f)), reused, 'which is the one that is known from then on');
  t.equal(nodes.forget(nodes.idOf(f), 1), false, 'with all lookups');
  t.equal(nodes.forget(nodes.idOf(f), 1), true, 'until they are taken back');
  nodes.remember(again);
  t.equal(nodes.canonical(f), again, 'once forgotten, the next is the first');
});
t.test('nodes of an image are not kept', async t => {
  const [[, path]] = goldenImages() as [[string, string]];
  const image = new Overlay([new ErofsLayer('A', readFileSync(path))], [], plainOptions);
  const nodes = new RecalledNodes(image);
  const entry = image.list(image.root)[0] as { name: string };
  const node = image.lookup(image.root, entry.name) as Node;
  t.equal(nodes.idOf(image.root), ROOT, 'the root is 1');
  t.equal(nodes.get(ROOT), image.root);
  t.equal(nodes.canonical({ ...image.root }), image.root, 'there is one root');
  t.equal(nodes.idOf(node), node.ino + 2, 'any other is its st_ino and two');
  t.match(
    nodes.get(nodes.idOf(node)),
    { ino: node.ino, data: node.data },
    'it is known without having been remembered',
  );
  nodes.remember(node);
  t.equal(nodes.forget(nodes.idOf(node), 1), true, 'it can be forgotten');
  t.match(nodes.get(nodes.idOf(node)), { ino: node.ino }, 'and is found again');
  t.equal(nodes.get(id(0)), undefined, '0 is nothing');
  t.throws(() => nodes.get(id(2 ** 43)), { name: 'EUCLEAN' }, 'what is not in the image is an error');
});

t.end();
