/** Finds the names of a stack that lead elsewhere under an older kernel. */
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { attempt, ErrnoError } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import { Recorder } from './explain.ts';
import type { Hazard } from './hazards.ts';
import { asLinux, type Kernel, REFERENCE } from './kernels.ts';

/** Yields each path that a kernel looks up otherwise than Linux 6.18 does, by all names that the layers have. */
export function* kernelDifferences(overlay: Overlay, kernel: Kernel): Generator<Hazard> {
  if (kernel === REFERENCE) return;
  const older = asLinux(overlay, kernel);
  const reference = asLinux(overlay, REFERENCE);
  const seen = new Set<number>([reference.root.ino]);
  const pending = [{ path: '', old: older.root, now: reference.root }];
  for (let at = pending.pop(); at; at = pending.pop()) {
    for (const name of namesIn(at.now)) {
      const path = `${at.path}/${name}`;
      const old = resultOf(older, at.old, name);
      const now = resultOf(reference, at.now, name);
      if (old.words !== now.words) {
        yield { path, code: 'kernel', detail: `Linux ${kernel}: ${old.words}; Linux ${REFERENCE}: ${now.words}` };
      } else if (old.node && now.node && isDirectory(now.node.top.mode) && !seen.has(now.node.ino)) {
        seen.add(now.node.ino);
        pending.push({ path, old: old.node, now: now.node });
      }
    }
  }
}

/** All names in the directories of a node. A directory that cannot be read has none. */
function namesIn({ stack }: Node): Set<ByteString> {
  const names = new Set<ByteString>();
  for (const directory of stack) attempt(() => directory.layer.readdir(directory, name => names.add(name)));
  return names;
}

/** What a name leads to, in words. */
function resultOf(overlay: Overlay, parent: Node, name: ByteString): { words: string; node?: Node } {
  const recorder = new Recorder();
  overlay.trace = recorder;
  const node = attempt(() => overlay.lookup(parent, name));
  overlay.trace = undefined;
  if (node instanceof ErrnoError) return { words: printable(node.name) };
  const words = recorder.lookups.at(-1)?.outcome ?? '';
  return typeof node === 'number' ? { words } : { words, node };
}
