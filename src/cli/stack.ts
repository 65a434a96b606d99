/** A stack that is read without a mount: how commands name it, open it and find paths in it. */
import type { Command } from 'commander';
import { planHere } from '../mount/plan.ts';
import { openOverlay } from '../overlay/open.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { ByteString } from '../sys/bytes.ts';
import { stdoutFailed } from '../terminal/output.ts';
import { reporting, WRONG_CALL } from '../terminal/report.ts';
import { collect, newCommand } from './command.ts';

const FAILED = 1;

/** The action of a command for one path. */
type PathAction = (overlay: Overlay, path: ByteString) => void | Promise<void>;

/** Makes a command that takes a stack and paths in it. */
export function newStackCommand(name: string): Command {
  return newCommand(`lowerdata ${name}`)
    .usage('[options] A:B::C|IMAGE PATH...')
    .argument('<stack>', 'the layers, as for mount')
    .argument('<paths...>', 'paths from the root of the stack')
    .option('-o, --options <list>', 'mount options that change what the stack shows', collect, []);
}

/**
 * Opens a stack and calls `use` for each path; a path that cannot be read does not stop the others.
 * @returns the exit status: 0, or 1 if anything failed
 */
export async function forPaths(
  [source = '', ...paths]: readonly ByteString[],
  { options }: { readonly options: ByteString[] },
  use: PathAction,
): Promise<number> {
  return reporting(WRONG_CALL, async () => {
    const { stack } = await planHere(source, options);
    const overlay = openOverlay(stack);
    let status = 0;
    for (const path of paths) {
      status = Math.max(status, await reporting(FAILED, () => one(overlay, path, use)));
      if (stdoutFailed()) break; // the failure was reported once
    }
    overlay.close();
    return status;
  });
}

async function one(overlay: Overlay, path: ByteString, use: PathAction): Promise<number> {
  await use(overlay, path);
  return 0;
}
