/** Makes the parts of the driver that write, for an overlay with an upper layer. */
import type { Nodeid } from '../../fuse/filesystem.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { protectionOf } from '../../upper/protection.ts';
import type { UpperRoots } from '../../upper/roots.ts';
import { Upper, type UpperRules } from '../../upper/upper.ts';
import type { Backing } from '../backing.ts';
import type { CachePolicy } from '../cache.ts';
import type { Files } from '../files.ts';
import type { Owners } from '../owners.ts';
import { OverlayChanges } from './changes.ts';
import { UpperFiles } from './files.ts';
import { WritableNodes } from './nodes.ts';

/** The nodes of a tree that is written to, and the operations that change it. */
export interface Writable {
  readonly nodes: WritableNodes;
  readonly changes: OverlayChanges;
}

/**
 * @param backing registers files of the upper layer with the kernel
 * @param lowerFiles the open files of the layers below
 * @param owners those that are shown in place of the stored ones
 */
export function openWritable(
  overlay: Overlay,
  roots: UpperRoots,
  rules: UpperRules,
  backing: Backing,
  lowerFiles: Files,
  cache: CachePolicy,
  owners: Owners | undefined,
  attributesChanged: (nodeid: Nodeid) => void,
): Writable {
  const { layer, work } = roots;
  const { xattrs } = overlay.rules;
  const nodes = new WritableNodes(overlay.root, overlay.index, {
    forgotten: node => changes.forgotten(node),
    protectionOf: found => protectionOf(layer, xattrs, found),
    inoOf: object => overlay.inoOf(object),
  });
  const upper = new Upper(overlay, layer, work, rules, {
    copiedUp: node => changes.copiedUp(node),
    settle: (node, place) => nodes.settle(node, place),
  });
  const files = new UpperFiles(layer, backing, attributesChanged);
  const changes = new OverlayChanges({ roots, upper, nodes, files, lowerFiles, cache, owners, attributesChanged });
  return { nodes, changes };
}
