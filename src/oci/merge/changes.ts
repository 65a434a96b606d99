/** What one layer does to the names of the layers below it. */
import { type ByteString, detached } from '../../sys/bytes.ts';

/** What a layer does to one name, or to names below it. */
export interface Change {
  /** Whether something of the layers below is hidden here: by a whiteout, or by what the layer has in its place. */
  covers: boolean;
  /** Whether what is here now comes from this layer, and not from those below. */
  isOwn: boolean;
  /** Changes in a directory, by name; undefined without any. */
  names: Map<ByteString, Change> | undefined;
}

const newChange = (): Change => ({ covers: false, isOwn: false, names: undefined });

export class LayerChanges {
  readonly root: Change = newChange();
  /** Whether anything of the layers below is hidden. */
  covers = false;

  /** Records that the layer needs a name, and the directories on the way. */
  touch(parts: readonly ByteString[]): Change {
    let change = this.root;
    for (const name of parts) {
      change.names ??= new Map();
      let next = change.names.get(name);
      if (next === undefined) {
        next = newChange();
        change.names.set(detached(name), next);
      }
      change = next;
    }
    return change;
  }

  /** Records that the layer puts something of its own under a name. @param isThere whether the name led to something else */
  set(parts: readonly ByteString[], isThere: boolean): void {
    const change = this.touch(parts);
    if (isThere) this.#cover(change);
    change.isOwn = true;
  }

  /** Records that the layer hides what layers below have under a name, or in a directory. */
  hide(parts: readonly ByteString[]): void {
    this.#cover(this.touch(parts));
  }

  #cover(change: Change): void {
    if (change.isOwn) return; // nothing of the layers below is here any more
    change.covers = true;
    this.covers = true;
  }
}
