/** `lowerdata pull`: makes a composefs image of an OCI image. */
import type { Command } from 'commander';
import type { OpenImage } from '../../../oci/image.ts';
import { WHITEOUTS, type Whiteouts } from '../../../oci/merge/tree.ts';
import { parsePlatform } from '../../../oci/platform.ts';
import {
  KEPT_XATTRS,
  type KeptXattrs,
  type LayerImage,
  type Pulled,
  type PullOptions,
  pull,
} from '../../../oci/pull.ts';
import { parseReference, TRANSPORTS } from '../../../oci/reference.ts';
import { checkName, Repository } from '../../../oci/repository.ts';
import { admission } from '../../../policy/admission.ts';
import { PolicyDenial } from '../../../policy/decide.ts';
import { type ByteString, printable } from '../../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { cleaningUp } from '../../../terminal/interruption.ts';
import { documentLines } from '../../../terminal/json-lines.ts';
import { printLines } from '../../../terminal/output.ts';
import { complain, MOUNT_FAILED, report, reporting } from '../../../terminal/report.ts';
import { digestFromText } from '../../../verity/algorithms.ts';
import type { Algorithm } from '../../../verity/digest.ts';
import { ALGORITHM_NAMES, checkChoice, newCommand, oneOf, parse } from '../../command.ts';
import { checkServiceFlags, withServiceOption, withSocket } from '../../service-option.ts';
import { checkRegistryFlags, openImage, type RegistryFlags, withRegistryOptions } from '../../source-image.ts';
import { escapedPath, shellWord } from '../../spelled.ts';
import { layerProgress } from '../../store.ts';

const FAILED = 1;

interface PullFlags extends RegistryFlags {
  readonly store?: ByteString;
  readonly name?: ByteString;
  readonly platform?: ByteString;
  readonly layers?: true;
  readonly bootable?: true;
  readonly xattrs?: ByteString;
  readonly whiteouts?: ByteString;
  readonly algorithm?: ByteString;
  readonly expect?: ByteString;
  readonly policy?: ByteString;
  readonly json?: true;
  readonly service?: ByteString;
}

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, withSocket(args));
  if (ended !== undefined) return ended;
  return reporting(FAILED, async () => {
    try {
      const [ref, flags] = [command.args[0] as ByteString, command.opts<PullFlags>()];
      return flags.service === undefined ? await pullImage(ref, flags) : await askService(ref, flags, flags.service);
    } catch (error) {
      if (error instanceof PolicyDenial) return report(error, MOUNT_FAILED);
      throw error;
    }
  });
}

export function define(): Command {
  const command = newCommand('lowerdata pull')
    .description('Make a composefs image of an OCI image, with the data of its files in a store.')
    .usage('[options] REF --store DIR')
    .argument('<ref>', `the image: ${Object.values(TRANSPORTS).join(', ')}`)
    .option('--store <path>', 'the repository of composefs that takes the image and the data; made if missing')
    .option('--name <name>', 'a name for the image in the repository, in place of the image that had it')
    .option('--platform <name>', 'which image of several: OS/ARCH or OS/ARCH/VARIANT (default: this machine)')
    .option('--layers', LAYERS)
    .option('--bootable', BOOTABLE)
    .addOption(oneOf('--xattrs <which>', XATTRS, KEPT_XATTRS))
    .addOption(oneOf('--whiteouts <rule>', WHITEOUTS_HELP, WHITEOUTS))
    .addOption(oneOf('--algorithm <name>', ALGORITHM, ALGORITHM_NAMES))
    .option('--expect <digest>', 'fail unless the image has this fs-verity digest')
    .option('--policy <path>', 'the policy that says which images are allowed (default: that of the system)');
  withServiceOption(command, 'have `lowerdata serve` pull it into its repository; needs --name');
  return withRegistryOptions(command).option('--json', 'print JSON').addHelpText('after', HELP);
}

const WHITEOUTS_HELP =
  'what a whiteout hides: spec (default), what lower layers have; composefs-rs, what its own layer has before it, too';
const LAYERS = 'make an image of each layer, too, which overlayfs stacks: LAYER2:LAYER1::OBJECTS';
const BOOTABLE =
  'make an image to boot from: /boot and /sysroot are empty, and files have the labels of its SELinux policy';
const XATTRS = 'which xattrs are kept: capability (default), security.capability alone; user, those of users, too';
const ALGORITHM = 'sha256 or sha512, for a new repository (default: sha256)';
const HELP = `
Sizes and digests of all blobs, and the digest of each decompressed layer, are checked while they are read. Seals of the image,
as of \`lowerdata seal\`, are taken, too; who has signed is checked by \`lowerdata verify\` and by mounts with \`-o signature=auto\`.
An image that differs from the digest that its manifest names is refused, unless --expect names it.
A policy in /etc/lowerdata/policy.json or /usr/lib/lowerdata/policy.json, or that of --policy, says which images are allowed.
Exit status: 0, or 1 if no image was made, or 32 if the policy does not allow the image, which then gets no name.`;

async function pullImage(ref: ByteString, flags: PullFlags): Promise<number> {
  const reference = parseReference(ref);
  const { store, name, platform, algorithm } = checkFlags(flags);
  const expected = flags.expect === undefined ? undefined : expectedDigest(flags.expect);
  const admit = await admission(printable(ref), reference, store, flags.policy);
  const image = await openImage(reference, platform === undefined ? undefined : parsePlatform(platform), flags);
  try {
    const repository = new Repository(store, algorithm);
    const options = {
      whiteouts: (flags.whiteouts ?? 'spec') as Whiteouts,
      expected,
      name,
      layers: flags.layers === true,
      seals: true,
      admit,
      bootable: flags.bootable === true,
      xattrs: (flags.xattrs ?? 'capability') as KeptXattrs,
      progress: layerProgress(image),
    };
    let pulled: Pulled;
    try {
      pulled = await cleaningUp(
        () => repository.abandon(),
        () => pull(image, repository, options),
      );
    } finally {
      repository.close();
    }
    warn(pulled, options.whiteouts);
    printLines(flags.json ? jsonOf(image, repository, pulled, options) : linesOf(image, repository, pulled));
  } finally {
    image.source.close();
  }
  return 0;
}

async function askService(ref: ByteString, flags: PullFlags, socket: ByteString): Promise<number> {
  checkServiceFlags(flags, ['name']);
  const { name } = flags;
  if (name === undefined) throw new ErrnoError(EINVAL, '--name is missing: the name of the image in the repository');
  const { pullByService } = await import('../../../service/client/make.ts');
  printLines([`${pullByService(socket, ref, name)}  ${name}`]);
  return 0;
}

function checkFlags(flags: PullFlags) {
  const { store, name, platform, whiteouts, xattrs, algorithm } = flags;
  if (store === undefined)
    throw new ErrnoError(EINVAL, '--store is missing: the repository for the image and its data');
  checkChoice('--whiteouts', whiteouts, WHITEOUTS);
  checkChoice('--xattrs', xattrs, KEPT_XATTRS);
  checkChoice('--algorithm', algorithm, ALGORITHM_NAMES);
  checkRegistryFlags(flags);
  if (name !== undefined) checkName(name);
  return { store, name, platform, algorithm: algorithm as Algorithm | undefined };
}

function expectedDigest(text: ByteString): string {
  const digest = digestFromText(text);
  if (digest !== undefined) return digest;
  throw new ErrnoError(
    EINVAL,
    `--expect=${printable(text)}: not the 64 hexadecimal digits of a SHA-256 digest, nor the 128 of SHA-512`,
  );
}

/** Says on stderr what another program would make otherwise, and what is wrong with seals. */
function warn({ digest, faults, other, seals }: Pulled, whiteouts: Whiteouts): void {
  for (const fault of seals.faults) complain(fault);
  for (const fault of faults) complain(`the image has no canonical digest: ${fault}`);
  if (other === undefined) return;
  const rule = whiteouts === 'spec' ? 'composefs-rs' : 'spec';
  const made = 'digest' in other ? other.digest : `no image: ${other.fault}`;
  complain(
    `a layer hides names that it has itself: --whiteouts=${whiteouts} makes ${digest}, --whiteouts=${rule} ${made}`,
  );
}

/**
 * The call that mounts images over each other, the lowest one first. One that comes again above, such as that of a second empty layer,
 * is left out: it has no name that the one above has not, and overlayfs takes no layer twice.
 */
function mountCall({ path }: Repository, digests: readonly string[]): ByteString {
  const images = new Set([...digests].reverse());
  const stack = `${[...images].map(digest => escapedPath(imagePath(path, digest))).join(':')}::${escapedPath(`${path}/objects`)}`;
  return `lowerdata mount ${shellWord(stack)} MOUNTPOINT -o digest=${digests.at(-1)}`;
}
const imagePath = (store: ByteString, digest: string): ByteString => `${store}/images/${digest}`;

function linesOf({ layers, manifest }: OpenImage, repository: Repository, pulled: Pulled): ByteString[] {
  const { digest, counts, knownLayers } = pulled;
  const { entries, newObjects, knownObjects, replacedObjects } = counts;
  const objects = newObjects + knownObjects + replacedObjects;
  return [
    `${digest}  ${imagePath(repository.path, digest)}`,
    `${layers.length} layers (${knownLayers} known), ${entries} entries, ${objects} files in objects: ${newObjects} new, ${knownObjects} known, ${replacedObjects} replaced`,
    mountCall(repository, [digest]),
    ...pulled.seals.seals.flatMap(seal =>
      seal.digest === digest ? [`seal: ${seal.artifact ?? `annotations of ${manifest}`}`] : [],
    ),
    ...layerLines(repository, pulled),
  ];
}

function layerLines(repository: Repository, { layers = [] }: Pulled): ByteString[] {
  if (layers.length === 0) return [];
  const digests = layers.map(({ digest }) => digest);
  const lines = digests.map((digest, i) => `layer ${i + 1}: ${digest}  ${imagePath(repository.path, digest)}`);
  return [...lines, mountCall(repository, digests)];
}

function jsonOf(
  image: OpenImage,
  repository: Repository,
  { digest, imageBytes, faults, other, counts, knownLayers, layers, seals }: Pulled,
  { whiteouts, name, bootable, xattrs }: PullOptions,
): ByteString[] {
  const { entries, newObjects, knownObjects, replacedObjects, objectBytes } = counts;
  return documentLines({
    digest,
    image: printable(imagePath(repository.path, digest)),
    imageBytes,
    ...(name !== undefined && { name: printable(name) }),
    manifest: image.manifest ?? null,
    config: image.config,
    layers: image.layers.map(({ diffId }) => diffId),
    knownLayers,
    canonical: faults.length === 0,
    faults,
    ...{ bootable, xattrs, whiteouts },
    otherDigest: other && 'digest' in other ? other.digest : null,
    ...{ entries, newObjects, knownObjects, replacedObjects, objectBytes },
    seals: seals.seals.map(({ artifact = null, digest = null }) => ({ artifact, digest })),
    mount: printable(mountCall(repository, [digest])),
    ...(layers && layersJson(repository, layers)),
  });
}

const layersJson = (repository: Repository, layers: readonly LayerImage[]) => ({
  layerImages: layers.map(({ digest, imageBytes }) => {
    return { digest, image: printable(imagePath(repository.path, digest)), imageBytes };
  }),
  ...(layers.length > 0 && {
    layersMount: printable(
      mountCall(
        repository,
        layers.map(({ digest }) => digest),
      ),
    ),
  }),
});
