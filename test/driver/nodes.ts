import t from 'tap';
import { Nodes } from '../../src/driver/nodes.ts';
import { type Nodeid, ROOT } from '../../src/fuse/ops.ts';
import type { Node } from '../../src/overlay/node.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { dir, FakeLayer, file, link } from '../fixtures/fake-layer.ts';
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
t.end();
