import { readFileSync } from 'node:fs';
import t from 'tap';
import { MERGED, Nodes, newNodeTable, RecalledNodes } from '../../src/driver/nodes.ts';
import { type Nodeid, ROOT } from '../../src/fuse/filesystem.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Inode, Layer } from '../../src/layers/layer.ts';
import type { Node } from '../../src/overlay/node.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { dir, FakeLayer, file, link } from '../fixtures/fake-layer.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { nodeAt, plainOptions } from '../fixtures/layers.ts';

const overlay = new Overlay([new FakeLayer('A', dir({ f: file(), g: file(), l: link('f') }))], [], plainOptions);
const { root } = overlay;
const [f, g, l] = ['/f', '/g', '/l'].map(path => nodeAt(overlay, path)) as [Node, Node, Node];
const id = (n: number): Nodeid => n as Nodeid;

t.test('nodeids', async t => {
  const nodes = new Nodes(root);
  t.equal(nodes.get(ROOT), root, 'the root is known from the start');
  for (const unknown of [0, 2, 3]) t.equal(nodes.get(id(unknown)), undefined, `nothing else is: ${unknown}`);
  t.equal(nodes.get(MERGED), undefined, 'nor the root as a directory in the root');
  nodes.holdsMerged = true;
  t.equal(nodes.get(MERGED), root, 'until the kernel may know it');
  t.equal(nodes.remember(root), ROOT, 'the root is 1');
  const [first, second] = [nodes.remember(f), nodes.remember(g)];
  t.ok(first > 1 && second > 1 && first !== second, 'any other object has its own, which is neither 0 nor 1');
  t.equal(nodes.get(first), f);
  t.equal(nodes.remember(f), first, 'the same one each time');
  t.equal(nodes.remember({ ...f }), first, 'by each name of a hard link');
  nodes.forget(second, 1);
  t.not(nodes.remember(g), second, 'one that was forgotten is not used again');
});

t.test('lookups are counted', async t => {
  const nodes = new Nodes(root);
  nodes.remember(root);
  t.equal(nodes.size, 0, 'the root needs no count');
  const at = nodes.remember(f);
  for (let i = 0; i < 2; i++) nodes.remember(f);
  t.equal(nodes.size, 1, 'an object is known once');
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
  t.equal(nodes.forget(nodes.remember(g), 2 ** 40), true, 'more than there were is all');
  t.equal(nodes.size, 0, 'nothing is kept');
});

t.test('A7, I4: an inode keeps the stack and data it got first', async t => {
  const nodes = new Nodes(root);
  const again: Node = { ...f, data: '/elsewhere' };
  t.equal(nodes.canonical(f), f, 'a node that is not known is itself');
  const first = nodes.remember(f);
  t.equal(nodes.canonical(again), f, 'the one that the kernel knows wins');
  t.equal(nodes.canonical({ ...root, stack: [] }), root, 'so does the root');
  t.equal(nodes.forget(first, 1), true);
  nodes.remember(again);
  t.equal(nodes.canonical(f), again, 'once forgotten, the next is the first');
});

t.test('nodes that cannot be found again', async t => {
  const nodes = newNodeTable(overlay);
  t.ok(nodes instanceof Nodes, 'are kept');
  t.equal(nodes.size, 0, 'and counted');
  t.equal(nodes.ofHandle, undefined, 'file handles do not lead to them');
});

t.test('an inode number that is used again', async t => {
  const nodes = new Nodes(root);
  const first = nodes.remember(f);
  const reused: Node = { ...l, ino: f.ino };
  t.equal(nodes.canonical(reused), reused, 'another object is another node');
  const second = nodes.remember(reused);
  t.not(second, first, 'with a nodeid of its own');
  t.strictSame([nodes.get(first), nodes.get(second)], [f, reused], 'both stay what they are');
  t.equal(nodes.forget(first, 1), true, 'the old one is forgotten alone');
  t.equal(nodes.remember(reused), second, 'and the number is that of the new one');
});

t.test('an object that is found under another name', async t => {
  const asked: unknown[] = [];
  const adopts = { answer: true };
  const adopt = (known: Inode, found: Inode): boolean => {
    asked.push(known, found);
    return adopts.answer;
  };
  const layer: Layer = Object.assign(new FakeLayer('A', dir({ f: file() })), { adopt });
  const overlay = new Overlay([layer], [], plainOptions);
  const known = nodeAt(overlay, '/f');
  const found: Node = { ...known, top: { ...known.top, layer } };
  const nodes = new Nodes(overlay.root);
  const nodeid = nodes.remember(known);
  t.equal(nodes.canonical(found), known, 'is the known one');
  t.ok(asked[0] === known.top && asked[1] === found.top, 'which is told where it was found');
  Object.assign(known.top, { isStale: true });
  t.equal(nodes.canonical(found), found, 'one that is not where it was gives way');
  t.equal(nodes.remember(found), nodeid, 'under the same nodeid');
  t.equal(nodes.get(nodeid), found);
  adopts.answer = false;
  t.not(nodes.remember({ ...known }), nodeid, 'what the layer says is another object is one');
});

t.test('nodes of an image are not kept', async t => {
  const [[, path]] = goldenImages() as [[string, string]];
  const image = new Overlay([new ErofsLayer('A', readFileSync(path))], [], plainOptions);
  const nodes = newNodeTable(image);
  t.ok(nodes instanceof RecalledNodes, 'their table finds them again');
  t.equal(nodes.size, undefined, 'and does not count them');
  const entry = image.list(image.root)[0] as { name: string };
  const node = image.lookup(image.root, entry.name) as Node;
  t.equal(nodes.remember(image.root), ROOT, 'the root is 1');
  t.equal(nodes.get(ROOT), image.root);
  t.equal(nodes.canonical({ ...image.root }, image.root, ''), image.root, 'there is one root');
  const nodeid = id(node.ino + 2);
  t.match(nodes.get(nodeid), { ino: node.ino, data: node.data }, 'it is known without having been remembered');
  t.equal(nodes.remember(node), nodeid, 'its nodeid is its st_ino and two');
  t.equal(nodes.forget(nodeid, 1), true, 'it can be forgotten');
  t.match(nodes.get(nodeid), { ino: node.ino }, 'and is found again');
  t.equal(nodes.get(id(0)), undefined, '0 is nothing');
  t.throws(() => nodes.get(id(2 ** 43)), { name: 'EUCLEAN' }, 'what is not in the image is an error');
});

t.end();
