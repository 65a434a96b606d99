/** Writes a shell script that makes the smallest stack with the answer that a stack gives for one path, and asks the kernel. */
import type { Overlay } from '../../overlay/overlay.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { attempt, EINVAL, ErrnoError } from '../../sys/errno.ts';
import { isDirectory } from '../../sys/stat.ts';
import { Explainer } from '../explain.ts';
import { explanationLines } from '../explain-text.ts';
import { asKernel } from './answer.ts';
import { renamed } from './names.ts';
import { scriptOf, type Words } from './script.ts';
import { type Answers, answersOf, asMountable, type Draft, gives, overlayOf, shrink } from './shrink.ts';
import { newSketch, sketchOf } from './sketch.ts';
import { namesOf, Visits } from './visits.ts';

/** A script, and the stack that it makes. */
export interface Reproduction {
  readonly script: string;
  /** The path in the stack of the script, without a slash before it; '' for the root. */
  readonly path: string;
  /** For each layer of the script, top first: the path of the layer that it stands for, '' for one that was added. */
  readonly layers: readonly { readonly name: string; readonly of: string }[];
}

/** A file in each directory of the answer says which layers are merged. */
const MARK_MODE = 0o100644;
const COMMENT_COLUMNS = 78;

/**
 * Reproduces the answer for one path. Only what the lookup visited is in the script, and of that only what the answer needs.
 * Throws ErrnoError as `findPath` does if no lookup failed but the path did (ELOOP), or if a layer cannot be read; EINVAL if
 * the answer depends on more than what the lookup visited.
 */
export function reproduce(overlay: Overlay, path: ByteString): Reproduction {
  const names = namesOf(overlay, path);
  const wanted = answersOf(overlay, names);
  const visits = new Visits(overlay);
  visits.visit(asKernel(overlay), names);
  visits.visit(overlay, names);
  const drawn: Draft = { layers: visits.layers, names, rules: overlay };
  if (!gives(drawn, wanted)) throw irreproducible(path);
  const smallest = asMountable(shrink(drawn, wanted), wanted);
  if (!smallest) throw irreproducible(path);
  const draft = renamed(smallest);
  const comment = commentOf(draft, wanted);
  mark(draft);
  const layers = draft.layers.map((layer, i) => {
    const of = smallest.layers[i]?.path ?? '';
    return { name: layer.path, of: overlay.layers.concat(overlay.dataLayers).some(one => one.path === of) ? of : '' };
  });
  return { script: scriptOf(draft, comment), path: draft.names.join('/'), layers };
}

const irreproducible = (path: ByteString): ErrnoError =>
  new ErrnoError(EINVAL, `${printable(path)}: its answer depends on more than the lookup visits; it is not reproduced`);

function commentOf(draft: Draft, { kernel, ours }: Answers): Words {
  const overlay = overlayOf(draft);
  const isProposed = kernel.outcome !== ours.outcome || kernel.data !== ours.data || kernel.rules !== ours.rules;
  const explanation = attempt(() => new Explainer(overlay).explain(`/${draft.names.join('/')}`));
  const lines = explanation instanceof ErrnoError ? [] : explanationLines(explanation, COMMENT_COLUMNS);
  const verity = overlay.options.verity !== 'off' && lines.some(line => /^ *digest +sha/.test(line));
  const comment = [
    'The smallest stack with this answer of overlayfs. The names are generated, and files hold the name of their layer.',
    ...(isProposed
      ? ['The lookup is one that was proposed; no kernel has it. Where lowerdata is on the PATH, it is asked, too.']
      : []),
    ...(verity
      ? ['The digest is that of other data, and no file here has fs-verity: an open that checks it fails.']
      : []),
    '',
    ...lines.map(line => line.replace('→', '->')),
  ];
  return { comment, isProposed };
}

/** Puts a file with the name of its layer into each directory that the path leads to. */
function mark(draft: Draft): void {
  const overlay = overlayOf(draft);
  const found = answersOf(overlay, draft.names);
  for (const { node } of [found.kernel, found.ours]) {
    if (!node || !isDirectory(node.top.mode)) continue;
    for (const directory of node.stack) {
      sketchOf(directory).entries.set(`in-${directory.layer.path}`, newSketch(MARK_MODE));
    }
  }
}
