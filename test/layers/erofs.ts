import t from 'tap';
import { openErofsLayer } from '../../src/layers/erofs.ts';
import { goldenImages } from '../fixtures/golden-images.ts';
import { noErofs, withKernelMount } from '../fixtures/kernel-mount.ts';
import { differences, layerTree, mountedTree } from '../fixtures/tree.ts';

t.test('a golden image shows what the kernel shows of it', { skip: noErofs() }, async t => {
  for (const [name, path] of goldenImages()) {
    const kernel = withKernelMount(path, mountedTree);
    if (kernel) t.same(differences(layerTree(openErofsLayer(path)), kernel), [], `${name}, ${kernel.size} objects`);
    else t.fail(`the kernel refuses ${name}`);
  }
});
