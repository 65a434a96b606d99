/**
 * The links of files in the index. The xattr nlink of a copy says how many names its file has in all layers, relative to the links of
 * the copy itself. So each system call that adds or takes away a name in the upper layer changes both at once.
 * Source: kernel fs/overlayfs/util.c, ovl_nlink_start and ovl_cleanup_index; copy_up.c, ovl_link_up.
 */
import type { Inode } from '../layers/layer.ts';
import { link } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { AT_EMPTY_PATH, timesOf } from '../sys/statx.ts';
import type { Place, UpperNode } from './node.ts';
import type { Upper } from './upper.ts';

/** Whether the names of a node are counted in the index, or will be as soon as it is copied up. Source: kernel ovl_need_index. */
export function isCounted({ overlay }: Upper, { indexed, isUpper, top }: UpperNode): boolean {
  if (indexed || isUpper || !overlay.index?.takes(top)) return indexed !== undefined;
  return overlay.attrOf(top).nlink > 1;
}

/** A name of a file in the index that only a layer below has. */
export interface LowerLink {
  readonly place: Place;
  readonly lower: Inode;
}

/** The name by which a file in the index was found, if the upper layer does not have that name yet. */
export function lowerLink(upper: Upper, node: UpperNode): LowerLink | undefined {
  const { indexed, place } = node;
  if (!indexed || !place || upper.objectAt(place) !== undefined) return undefined;
  const lower = upper.lowerAt(place);
  return lower && upper.overlay.index?.nameOf(lower) === indexed.name ? { place, lower } : undefined;
}

/** Gives a file in the index such a name in the upper layer, whose directory must be there. Throws ErrnoError that names the node. */
export function linkUp(upper: Upper, node: UpperNode, { place, lower }: LowerLink): void {
  const { indexed } = node;
  if (!indexed) return;
  const { overlay } = upper;
  const { parent, name } = place;
  upper.markImpure(parent);
  const before = timesOf(overlay.attr(parent));
  record(upper, node, 'L', overlay.attr(node).nlink - overlay.attrOf(lower).nlink); // true with the link and without it
  const directory = upper.directory(parent);
  const linked = link(upper.descriptor(node), directory, name);
  if (linked < 0) throw upper.failure(linked, node, 'copy-up of');
  native.utimensat(upper.directory(parent), '', before, AT_EMPTY_PATH); // nothing changed in sight
  indexed.otherLinks--;
  recordLinks(upper, node);
}

/** Must be called before a name of a file in the index is made or taken away in the upper layer. Throws as `linkUp` does. */
export function recordLinks(upper: Upper, node: UpperNode): void {
  if (node.indexed) record(upper, node, 'U', node.indexed.otherLinks);
}

function record(upper: Upper, node: UpperNode, relative: 'U' | 'L', difference: number): void {
  const value = `${relative}${difference < 0 ? '' : '+'}${difference}`;
  const marked = upper.mark(node, upper.overlay.rules.xattrs.nlink, value);
  if (marked < 0) throw upper.failure(marked, node, 'links of');
}

/** Must be called when a name of a node was taken away: without names, the file leaves the index. It stays usable. */
export function leaveIndex(upper: Upper, node: UpperNode): void {
  const { indexed } = node;
  const { index } = upper.overlay;
  if (!indexed || !index) return;
  const links = upper.overlay.attr(node).nlink;
  if (links > 0) return;
  if (links - indexed.otherLinks > 1) {
    indexed.otherLinks = -1; // the lower file was linked meanwhile: the names in the upper layer are what is left
    recordLinks(upper, node);
    return;
  }
  upper.layer.keep(node.top);
  native.unlinkat(upper.layer.directory(index.directory), indexed.name, 0); // or it is removed when the next mount begins
  node.indexed = undefined;
}
