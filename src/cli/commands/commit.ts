/** `lowerdata commit`: makes one image of what a stack shows, or of its changes alone. */
import type { Command } from 'commander';
import { stageTree } from '../../composefs/stage.ts';
import { writeStaged } from '../../composefs/write.ts';
import { readMerged } from '../../inspect/merged-tree.ts';
import { readUpper } from '../../inspect/upper-tree.ts';
import { planHere } from '../../mount/plan.ts';
import { openOverlay } from '../../overlay/open.ts';
import { abandonStore, beginStore, endStore, ObjectStore } from '../../store/objects.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { cleaningUp } from '../../terminal/interruption.ts';
import { print } from '../../terminal/output.ts';
import { Output } from '../../terminal/output-file.ts';
import { showProgress } from '../../terminal/progress.ts';
import { reporting } from '../../terminal/report.ts';
import { measureHex } from '../../verity/digest.ts';
import { collect, newCommand, parse } from '../command.ts';

const FAILED = 1;

interface CommitFlags {
  readonly options: ByteString[];
  readonly digestStore?: ByteString;
  readonly printDigest?: true;
  readonly diff?: true;
}

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [stack, image] = command.args as [ByteString, ByteString];
  return reporting(FAILED, () => commit(stack, image, command.opts<CommitFlags>()));
}

export function define(): Command {
  return newCommand('lowerdata commit')
    .description(
      'Make one image of what a stack shows, changes in its upper directory included, or of these changes alone.',
    )
    .usage('[options] A:B::C|IMAGE NEW')
    .argument('<stack>', 'the layers, as for mount')
    .argument('<new>', 'the image to write, `-` for stdout')
    .option('-o, --options <list>', 'mount options, `upperdir` and `workdir` among them', collect, [])
    .option('--diff', 'an image of the upper directory alone, to be stacked on the same layers')
    .option('--digest-store <path>', 'the directory that takes the data of the files, named by digest')
    .option('--print-digest', "print the image's fs-verity digest");
}

async function commit(source: ByteString, image: ByteString, flags: CommitFlags): Promise<number> {
  const { digestStore, printDigest, diff } = flags;
  if (digestStore === undefined)
    throw new ErrnoError(EINVAL, '--digest-store is missing: the directory for the data of the files');
  const { stack: plan } = await planHere(source, flags.options);
  if (diff && plan.upper === undefined)
    throw new ErrnoError(EINVAL, '--diff: the stack has no upper directory: -o upperdir=DIR,workdir=DIR');
  const overlay = openOverlay(plan);
  const output = new Output(image);
  const store = beginStore(digestStore);
  const bar = showProgress(0, 0);
  const abandon = (): void => {
    abandonStore(store);
    bar.stop();
  };
  try {
    const options = { store: new ObjectStore(store), algorithm: 'sha256', progress: bar.update } as const;
    const root = await cleaningUp(abandon, async () => (diff ? readUpper : readMerged)(overlay, options));
    const bytes = writeStaged(stageTree(root, diff ? { asLayer: true } : { minVersion: 0, maxVersion: 1 }));
    await output.write(bytes);
    if (printDigest) print(`${measureHex(bytes)}\n`);
  } finally {
    endStore(store);
    bar.stop();
    overlay.close();
  }
  return 0;
}
