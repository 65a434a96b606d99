/** The `-o` language: the options of mount(8), overlayfs, mount.composefs and FUSE, and the effect of each. */
import { statSync } from 'node:fs';
import type { DriverOptions } from '../driver/options.ts';
import { RESTRICTION_FLAGS } from '../driver/restrictions.ts';
import type { FuseMountOptions } from '../fuse/mount.ts';
import type { StoredImage } from '../oci/stored/images.ts';
import { StackDraft } from '../overlay/options/draft.ts';
import { parseLowerdir } from '../overlay/options/lowerdir.ts';
import {
  defaultsFor,
  IMAGE_DEFAULTS,
  KERNEL_DEFAULTS,
  type StackDefaults,
  type StackOptions,
} from '../overlay/options/rules.ts';
import { type Option, splitOptions } from '../overlay/options/split.ts';
import { type OptionWords, stackOptionWords } from '../overlay/options/table.ts';
import { readPolicy } from '../policy/file.ts';
import { type SealChoice, verifyImage } from '../seal/image.ts';
import type { Voucher } from '../seal/verify.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { leadsToDirectory } from '../sys/real-path.ts';
import { type Choices, defaultChoices, isComment, mountOptions, unescaped } from './options.ts';

/** The help text of each option, by name, in the order of the tables. */
export const optionWords: ReadonlyMap<ByteString, OptionWords> = new Map([...stackOptionWords, ...mountOptions]);

/** The values of an option that takes one of a few; empty for other options. */
export function valuesOf(key: ByteString): readonly string[] {
  const values = optionWords.get(key)?.values;
  return Array.isArray(values) ? values : [];
}

/** The signature of a plan that takes those of the repository. */
const AUTO = 'auto';

/** A mount as its options describe it. */
export interface MountPlan {
  readonly stack: StackOptions;
  readonly driver: DriverOptions;
  readonly fuse: FuseMountOptions;
  /** How the digest of the top image is found; `sealed` does it. The signature may be AUTO. */
  readonly seal?: SealChoice;
  /** The file with the policy; undefined: that of the system, if there is one. */
  readonly policy?: ByteString;
  /** Options that change nothing: they were understood, or ignored because the user asked for that. */
  readonly withoutEffect: readonly ByteString[];
}

export interface PlanInput {
  /** `A:B::C` or an image; only a name if an option gives the layers. */
  readonly source: ByteString;
  /** The text of each `-o`. */
  readonly texts: readonly ByteString[];
  /** mount -s: ignore unknown options. */
  readonly sloppy: boolean;
  /** Whether root mounts. Other users never get set-user-ID programs and devices. */
  readonly isRoot: boolean;
  /** Whether a layer is a regular file. */
  readonly isImage: (path: ByteString) => boolean;
  /** What `storedImage` has found: the image to mount, if the source is the name of one. */
  readonly stored?: StoredImage | undefined;
  /** The defaults of the stack, where the caller is not one who names options himself. */
  readonly defaults?: StackDefaults | undefined;
}

/**
 * Makes a plan from the options.
 * @throws ErrnoError EINVAL, naming the option, if one is unknown, invalid, unsupported, or conflicts with another
 */
export function planMount(input: PlanInput): MountPlan {
  const { source, texts, sloppy, isRoot } = input;
  const draft = { stack: new StackDraft(), choices: defaultChoices(isRoot), withoutEffect: [] as ByteString[] };
  for (const { key, value } of texts.flatMap(splitMountOptions)) {
    if (!take(draft, key, value)) {
      if (!sloppy) throw new ErrnoError(EINVAL, `option ${printable(key)}: unknown`);
      draft.withoutEffect.push(key);
    }
  }
  return finish(draft, { ...input, source: draft.choices.source ?? source });
}

/**
 * Splits at commas as overlayfs does. A value in double quotes is taken as a whole, as mount(8) passes it: without the quotes,
 * commas included.
 */
export function splitMountOptions(text: ByteString): Option[] {
  const options: Option[] = [];
  for (const [piece, key, quoted] of text.matchAll(/([^=,\\"]+)="([^"]*)"(?=,|$)|(?:\\.|\\$|[^,\\])+/gs)) {
    if (key !== undefined) options.push({ key, value: quoted });
    else options.push(...splitOptions(piece));
  }
  return options;
}

/**
 * The text of an `-o` from mount.fuse3, without the `dev` and `suid` at its end. mount.fuse3 appends them if the user did not
 * give `nodev` and `nosuid`. They must not lift the restrictions of layers, because the user did not give them.
 * Source: libfuse's util/mount.fuse.c.
 */
export function withoutFuse3Words(text: ByteString): ByteString {
  const says = (word: ByteString): boolean => `,${text},`.includes(`,${word},`);
  const added = [...(says('nodev') ? [] : ['dev']), ...(says('nosuid') ? [] : ['suid'])];
  const end = added.map(word => `,${word}`).join('');
  return text.endsWith(end) ? text.slice(0, text.length - end.length) : text;
}

/** A plan under construction. */
interface Draft {
  readonly stack: StackDraft;
  readonly choices: Choices;
  readonly withoutEffect: ByteString[];
}

/** Applies one option. @returns whether it is known */
function take({ stack, choices, withoutEffect }: Draft, key: ByteString, value: ByteString | undefined): boolean {
  if (isComment(key)) return true;
  const option = mountOptions.get(key);
  option?.take(choices, value, key);
  const result = option ? 'taken' : stack.set(key, value);
  if (option?.idle || result === 'without effect') withoutEffect.push(key);
  return result !== 'unknown';
}

function finish(draft: Draft, input: PlanInput): MountPlan {
  const { source, isImage, defaults = KERNEL_DEFAULTS } = input;
  const { stack, choices, withoutEffect } = draft;
  const { verity, objects, fsname, subtype, allowOther, flags, undone, maxReadBytes, driver } = choices;
  const { signature, keys, policy } = choices;
  const lifted = RESTRICTION_FLAGS.filter(flag => undone.has(flag));
  if (verity) stack.set('verity', verity);
  if (signature !== undefined)
    stack.given.verity ??= 'require'; // as with a digest
  else if (keys !== undefined) throw new ErrnoError(EINVAL, 'option keys: goes with signature, which they are for');
  if (driver.opens === 'none' && driver.passthrough === 'on')
    throw new ErrnoError(EINVAL, 'option opens=none: excludes passthrough=on, which needs the data at open');
  if (driver.restart === 'on' && driver.transport !== 'dev')
    throw new ErrnoError(EINVAL, `option restart=on: not with transport=${driver.transport}`);
  const { index, upperdir } = stack.given;
  if (index !== undefined && upperdir === undefined) withoutEffect.push('index');
  if (driver.nfsExport === 'on') stack.given.index ??= true; // as in the kernel
  const layers = stack.hasLayers ? stack.finish(defaults, objects) : bareStack(stack, input, objects);
  if (signature === AUTO && layers.stored === undefined)
    throw new ErrnoError(EINVAL, 'option signature=auto: goes with store, where the seals are; a file is ./auto');
  if (driver.nfsExport === 'on' && !isImageAlone(layers, isImage)) withoutEffect.push('nfs_export');
  return {
    stack: layers,
    driver: { ...driver, ...(lifted.length > 0 && { lifted }), ...(flags.has('noatime') && { noatime: true }) },
    fuse: {
      fsname: fsname ?? source,
      ...{ subtype, flags: [...flags] },
      allowOther: allowOther || (choices.isRoot && layers.upper !== undefined), // as in overlayfs and fuse-overlayfs
      ...(layers.upper && { isWritable: true }),
      ...(maxReadBytes && { maxReadBytes }),
    },
    ...(signature !== undefined && { seal: { signature, keys } }),
    ...(policy !== undefined && { policy }),
    withoutEffect,
  };
}

function isImageAlone({ layers, upper }: StackOptions, isImage: (path: ByteString) => boolean): boolean {
  const [top, ...others] = layers.filter(({ dataOnly }) => !dataOnly);
  return top !== undefined && others.length === 0 && !upper && isImage(top.path);
}

/** The stack if the source names the layers, or an image of a repository. */
function bareStack(
  stack: StackDraft,
  { source, isImage, stored }: PlanInput,
  objects: readonly ByteString[],
): StackOptions {
  if (stored) return storedStack(stack, stored, objects);
  const layers = parseLowerdir(source, 'SOURCE');
  stack.replaceLayers(source);
  return stack.finish(defaultsFor(layers, isImage), objects);
}

/** An image of a repository, with the objects there. */
function storedStack(
  stack: StackDraft,
  { store, name, digest }: StoredImage,
  objects: readonly ByteString[],
): StackOptions {
  const givesDigest = stack.given.imageDigest === undefined && name !== digest;
  stack.given.imageDigest ??= digest;
  stack.addLayer(`${store}/images/${digest}`, false);
  return { ...stack.finish(IMAGE_DEFAULTS, [`${store}/objects`, ...objects]), stored: { store, name, givesDigest } };
}

/**
 * Finds the image that a source names where `store=` is among the options; undefined without that option. Throws ErrnoError: EINVAL
 * if options give layers, too; and as `findImage` does.
 */
export async function storedImage(source: ByteString, texts: readonly ByteString[]): Promise<StoredImage | undefined> {
  const options = texts.flatMap(splitMountOptions);
  const store = valueIn(options, STORE);
  if (!store) return undefined; // that its value is missing is reported later
  const other = options.find(({ key }) => LAYER_OPTIONS.includes(key));
  if (other) throw new ErrnoError(EINVAL, `option store: excludes ${other.key}: the source is the name of an image`);
  const { findImage } = await import('../oci/stored/images.ts');
  return findImage(unescaped(store), unescapedSource(options) ?? source);
}
const LAYER_OPTIONS: readonly ByteString[] = ['lowerdir', 'lowerdir+', 'datadir+'];

const STORE = 'store';

/** Whether `store=` is among the options, so that sources are names of images. */
export const namesStore = (texts: readonly ByteString[]): boolean =>
  texts.flatMap(splitMountOptions).some(({ key }) => key === STORE);

const valueIn = (options: readonly Option[], name: ByteString): ByteString | undefined =>
  options.findLast(({ key }) => key === name)?.value;

function unescapedSource(options: readonly Option[]): ByteString | undefined {
  const source = valueIn(options, 'source');
  return source && unescaped(source);
}

/** Whether a layer is a regular file. If stat(2) fails, returns false and leaves the error to the code that opens layers. */
export function isImage(path: ByteString): boolean {
  try {
    return statSync(bufferOf(path)).isFile();
  } catch {
    return false;
  }
}

/**
 * The plan with the digest that a signature vouches for, by the options or by the policy, as if `digest=` had named it: opening the
 * image then checks the bytes that it uses. Throws as `verifyImage`, `verifyStored` and `readPolicy` do, and PolicyDenial.
 */
export async function sealed(plan: MountPlan): Promise<MountPlan> {
  const { seal, policy, ...others } = plan;
  const signed = seal === undefined ? plan.stack : await sealedStack(plan.stack, seal);
  return { ...others, stack: await allowedStack(signed, seal, policy) };
}

async function sealedStack(stack: StackOptions, seal: SealChoice): Promise<StackOptions> {
  const { stored, imageDigest } = stack;
  const top = stack.layers.find(({ dataOnly }) => !dataOnly);
  const { digest } =
    seal.signature === AUTO && stored && imageDigest !== undefined
      ? await verifyByStore({ ...stored, digest: imageDigest }, seal)
      : verifyImage(top?.path ?? '', seal, imageDigest);
  return vouched(stack, digest);
}

/** The stack if the policy allows each of its images. Stacks of directories have none, and no policy is read for them. */
async function allowedStack(
  stack: StackOptions,
  seal: SealChoice | undefined,
  file: ByteString | undefined,
): Promise<StackOptions> {
  if (file === undefined && stack.layers.every(({ path }) => leadsToDirectory(path))) return stack;
  const policy = await readPolicy(file);
  if (policy === undefined) return stack;
  const { decide, enforceAll } = await import('../policy/stack.ts');
  const digest = enforceAll(policy, await decide(policy, stack, signatureFile(seal)));
  return digest === undefined ? stack : vouched(stack, digest);
}

const vouched = ({ stored, ...others }: StackOptions, imageDigest: string): StackOptions => ({
  ...others,
  imageDigest,
  ...(stored && { stored: { ...stored, givesDigest: false } }),
});

/** The file with the signature, if it is not among the seals of the repository. */
export const signatureFile = (seal: SealChoice | undefined): ByteString | undefined =>
  seal?.signature === AUTO ? undefined : seal?.signature;

async function verifyByStore(image: StoredImage, { keys }: SealChoice): Promise<Voucher> {
  const { verifyStored } = await import('../oci/seals/stored.ts');
  return verifyStored(image, keys);
}

/** The plan for a mount by this user before signatures and the policy are asked. Throws ErrnoError as planMount does. */
export async function unsealedPlan(source: ByteString, texts: readonly ByteString[]): Promise<MountPlan> {
  const stored = await storedImage(source, texts);
  return planMount({ source, texts, sloppy: false, isRoot: process.geteuid?.() === 0, isImage, stored });
}

/** The plan for a mount by this user, from a source and the texts of some `-o`. Throws ErrnoError as planMount does. */
export const planHere = async (source: ByteString, texts: readonly ByteString[]): Promise<MountPlan> =>
  sealed(await unsealedPlan(source, texts));
