/** Looks up the paths that fuse-native passes in an overlay. */
import { LRUCache } from 'lru-cache';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { EILSEQ, ENOTDIR } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';

/** Every operation passes a whole path, so this must hold all directories in use. Looking up one name below them is fast. */
const PATHS_MAX = 4096;

/** The character that UTF-8 decoding puts in place of invalid bytes. */
const REPLACEMENT = '\ufffd';

export class Paths {
  private readonly overlay: Overlay;
  private readonly known = new LRUCache<string, Node>({ max: PATHS_MAX });

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /**
   * Looks up an absolute path.
   * @returns its node, or a negative errno: those of Overlay.lookup; -ENOTDIR below a non-directory; -EILSEQ if the path was not
   * UTF-8, because its original bytes are lost
   * Throws as Overlay.lookup does.
   */
  find(path: string): Node | number {
    if (path === '/') return this.overlay.root;
    const known = this.known.get(path);
    if (known) return known;
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    if (name.includes(REPLACEMENT)) return -EILSEQ;
    const parent = this.find(path.slice(0, slash) || '/');
    if (typeof parent === 'number') return parent;
    if (!isDirectory(parent.top.mode)) return -ENOTDIR;
    const node = this.overlay.lookup(parent, byteStringFromText(name));
    if (typeof node !== 'number') this.known.set(path, node);
    return node;
  }
}

/** A ByteString as text for fuse-native; bytes that are not UTF-8 become U+FFFD, one or more. */
export function lossyText(name: ByteString): string {
  return Buffer.from(name, 'latin1').toString('utf8');
}

/** A ByteString as text for fuse-native, or undefined if it is not UTF-8. */
export function exactText(name: ByteString): string | undefined {
  const text = lossyText(name);
  return byteStringFromText(text) === name ? text : undefined;
}
