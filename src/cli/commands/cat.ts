/** `lowerdata cat`: prints files of a stack. */
import type { Command } from 'commander';
import type { Overlay } from '../../overlay/overlay.ts';
import { failure, findPath } from '../../overlay/path.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EINVAL, EISDIR } from '../../sys/errno.ts';
import { isDirectory, isRegular } from '../../sys/stat.ts';
import { print } from '../../terminal/output.ts';
import { parse } from '../command.ts';
import { forPaths, newStackCommand } from '../stack.ts';

const CHUNK_BYTES = 1 << 20;

export const define = (): Command => newStackCommand('cat').description('Print files of a stack, without a mount.');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  return forPaths(command.args, command.opts<{ options: ByteString[] }>(), printFile);
}

async function printFile(overlay: Overlay, path: ByteString): Promise<void> {
  const node = findPath(overlay, path, true);
  const { mode } = node.top;
  if (!isRegular(mode)) throw failure(path, isDirectory(mode) ? EISDIR : EINVAL);
  const data = overlay.open(node);
  if (typeof data === 'number') throw failure(path, -data);
  try {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (let position = 0; ; ) {
      const count = data.read(chunk, 0, chunk.length, position);
      if (count < 0) throw failure(path, -count);
      if (count === 0) break;
      print(chunk.subarray(0, count));
      position += count;
    }
  } finally {
    data.close();
  }
}
