/** The seals of an image in the place where the image is: a layout, or a registry. */
import { setTimeout as sleep } from 'node:timers/promises';
import { EFBIG, EINVAL, ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import type { Descriptor } from '../documents.ts';
import type { OpenImage, Places } from '../image.ts';
import { ARTIFACT_BYTES_MAX, hasSubject, readArtifact, type Seal } from './artifact.ts';

/** More artifacts of an image are not looked at. */
const ARTIFACTS_MAX = 32;
/** For all seals of an image together. */
const TIME_MS = 30_000;
/** What is wrong with one artifact, and says nothing about the next one. */
const DAMAGED: readonly number[] = [EFBIG, EINVAL, ENOENT, EUCLEAN];

export interface FoundSeals {
  readonly seals: readonly Seal[];
  /** Why there may be more than those, for messages. */
  readonly faults: readonly string[];
}

/** Finds the seals of an image. What fails is among the faults; those that are about another manifest are left out. */
export async function findSeals(image: OpenImage, timeMs = TIME_MS): Promise<FoundSeals> {
  const found = { seals: [] as Seal[], faults: [] as string[] };
  const ended = new AbortController();
  const late = sleep(timeMs, true, { signal: ended.signal }).catch(() => false);
  try {
    if (!(await Promise.race([search(image, found), late]))) return found;
    const fault = `${image.source.shown}: its seals were not all read in ${timeMs / 1000} s`;
    return { seals: [...found.seals], faults: [...found.faults, fault] }; // the search may go on until the source is closed
  } finally {
    ended.abort();
  }
}

/** @returns false */
async function search(
  { manifest: subject, places, source }: OpenImage,
  { seals, faults }: { seals: Seal[]; faults: string[] },
): Promise<false> {
  if (subject === undefined || places?.referrers === undefined) return false;
  await collecting(faults, [], async () => {
    const listed = (await places.referrers?.(subject, source)) ?? [];
    const all = differing(listed).filter(({ digest }) => digest !== subject);
    const typed = all.filter(({ artifactType }) => artifactType);
    const others = all.filter(({ artifactType }) => !artifactType); // images, for the most part, whose faults are not of interest
    if (typed.length > ARTIFACTS_MAX)
      faults.push(`${source.shown}: ${typed.length} artifacts of ${subject}; the first ${ARTIFACTS_MAX} are looked at`);
    for (const descriptor of [...typed.slice(0, ARTIFACTS_MAX), ...others.slice(0, ARTIFACTS_MAX)])
      await collecting(descriptor.artifactType ? faults : [], DAMAGED, async () => {
        const seal = await readSeal(descriptor, subject, source, places);
        if (seal) seals.push(seal);
      });
  });
  return false;
}

/** Each descriptor once; one that differs in its size is another one, which may be the right one. */
const differing = (listed: readonly Descriptor[]): Descriptor[] => [
  ...new Map(listed.map(each => [`${each.digest} ${each.size}`, each])).values(),
];

/** Collects what an action throws. @param errnos only these; all if there are none */
async function collecting(faults: string[], errnos: readonly number[], action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ErrnoError) || (errnos.length > 0 && !errnos.includes(error.errno))) throw error;
    faults.push(error.message);
  }
}

/** @returns undefined for what is not about the subject */
async function readSeal(
  descriptor: Descriptor,
  subject: string,
  source: OpenImage['source'],
  places: Places,
): Promise<Seal | undefined> {
  const { digest, size, artifactType } = descriptor;
  const path = places.manifest(digest);
  const what = `${source.shown}/${path}`;
  if (size > ARTIFACT_BYTES_MAX) {
    if (!artifactType) return undefined; // an image
    throw new ErrnoError(EFBIG, `${what}: ${size} bytes; ${ARTIFACT_BYTES_MAX} are allowed for an artifact`);
  }
  const bytes = await source.document(path, descriptor);
  if (!artifactType && !hasSubject(bytes, what)) return undefined;
  const entries = readArtifact(bytes, subject, what);
  if (entries === undefined) return undefined;
  const signatures: Uint8Array[] = [];
  for (const { signature } of entries) signatures.push(await source.document(places.blob(signature.digest), signature));
  return { digest, bytes, entries, signatures };
}
