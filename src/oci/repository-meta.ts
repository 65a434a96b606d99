/** The file meta.json of a repository. Source: composefs-rs, crates/composefs/src/repository.rs, RepoMetadata. */
import * as v from 'valibot';
import { O_PATH, openIn, readSmallFile } from '../sys/beneath.ts';
import { EINVAL, ENOENT, EOPNOTSUPP, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import type { Algorithm } from '../verity/digest.ts';
import { checked, parse } from './documents.ts';

export const META = 'meta.json';
const META_BYTES_MAX = 1 << 16;
const VERSION = 1;
/** The feature of repositories whose images have format 1, which older programs may only read. */
const V1_EROFS = 'v1_erofs';
/** The format of images if nothing says it: that of repositories older than the others. */
const OLD_FORMAT = 2;

const Words = v.optional(v.array(v.string()), []);
const Meta = v.object({
  version: v.number(),
  algorithm: v.string(),
  features: v.optional(v.object({ 'read-only-compatible': Words, incompatible: Words }), {}),
  erofs_formats: v.optional(v.object({ default: v.number() })),
});

/** What an image of a repository depends on. */
export interface RepositoryMeta {
  readonly algorithm: Algorithm;
  /** The version of composefs in the header of images. */
  readonly imageVersion: 0 | 1;
  /** Why only others may change the repository; absent if it may be changed here. */
  readonly obstacle?: string;
}

/** The text for a new repository. */
export const newMeta = (algorithm: Algorithm): string =>
  `${JSON.stringify(
    {
      version: VERSION,
      algorithm: `fsverity-${algorithm}-12`,
      features: { compatible: [], 'read-only-compatible': [V1_EROFS], incompatible: [] },
      erofs_formats: { default: 1 },
    },
    null,
    2,
  )}\n`;

/**
 * Reads the file of an open repository; undefined if it has none. Throws ErrnoError as `readMeta` does, and with the path.
 * @param shown the path of the repository, for messages
 */
export function metaIn(repository: number, shown: string): RepositoryMeta | undefined {
  const what = `${shown}/${META}`;
  const found = openIn(repository, META, O_PATH, 0);
  if (found === -ENOENT) return undefined;
  must(found, what);
  try {
    return readMeta(readSmallFile(found, META_BYTES_MAX, what), what);
  } finally {
    native.close(found);
  }
}

/** Reads the text of the file. Throws ErrnoError: EUCLEAN for what it cannot be, EOPNOTSUPP for a repository that only others read. */
function readMeta(bytes: Uint8Array, what: string): RepositoryMeta {
  const { version, algorithm, features, erofs_formats: formats } = checked(Meta, parse(bytes, what), what);
  const refuse = (why: string): never => {
    throw new ErrnoError(EOPNOTSUPP, `${what}: ${why}`);
  };
  if (version !== VERSION) refuse(`version ${version} of a repository is not supported; version ${VERSION} is`);
  const notSupported = (names: readonly string[]): string => `features that are not supported: ${names.join(', ')}`;
  if (features.incompatible.length > 0) refuse(notSupported(features.incompatible));
  const unknown = features['read-only-compatible'].filter(word => word !== V1_EROFS);
  const [, name] = /^fsverity-(sha256|sha512)-12$/.exec(algorithm) ?? [];
  if (name === undefined)
    refuse(`algorithm ${algorithm} is not supported; fsverity-sha256-12 and fsverity-sha512-12 are`);
  const format = formats?.default ?? (features['read-only-compatible'].includes(V1_EROFS) ? 1 : OLD_FORMAT);
  const obstacle =
    unknown.length > 0
      ? notSupported(unknown)
      : format !== 0 && format !== 1 && `its images have format ${format}; formats 0 and 1 are supported`;
  return { algorithm: name as Algorithm, imageVersion: format as 0 | 1, ...(obstacle && { obstacle }) };
}

/** Refuses a repository that only others may change. Throws ErrnoError EOPNOTSUPP. */
export function checkWritable({ obstacle }: RepositoryMeta, what: string): void {
  if (obstacle !== undefined) throw new ErrnoError(EOPNOTSUPP, `${what}: ${obstacle}`);
}

/** Refuses another algorithm than that of the repository. Throws ErrnoError EINVAL. */
export function checkAlgorithm({ algorithm }: RepositoryMeta, wanted: Algorithm | undefined, what: string): void {
  if (wanted !== undefined && wanted !== algorithm)
    throw new ErrnoError(EINVAL, `${what}: the repository has ${algorithm}, not ${wanted}`);
}
