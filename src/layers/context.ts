/** What the layers of one stack share: descriptors of directories, and the inode numbers of each filesystem. */
import { Descriptors } from './descriptors.ts';
import { LayerNumbers } from './numbers.ts';

export class LayerContext {
  readonly descriptors = new Descriptors();
  /** The DirObjects of the layer whose object was opened or requested last: its held descriptor may be in use. */
  latest: object | undefined;
  private readonly numbers = new Map<string, LayerNumbers>();

  /** The numbers of a filesystem, shared by all layers on it. */
  numbersOf(filesystem: string): LayerNumbers {
    const known = this.numbers.get(filesystem);
    if (known !== undefined) return known;
    const made = new LayerNumbers();
    this.numbers.set(filesystem, made);
    return made;
  }
}

let single: LayerContext | undefined;

/** The context of all layers that are opened one by one, because any of them may become layers of one stack. */
export function contextOfSingles(): LayerContext {
  single ??= new LayerContext();
  return single;
}
