/** The file meta.json of a repository. Source: composefs-rs, crates/composefs/src/repository.rs, RepoMetadata. */
import * as v from 'valibot';
import { EINVAL, EOPNOTSUPP, ErrnoError } from '../sys/errno.ts';
import type { Algorithm } from '../verity/digest.ts';
import { checked, parse } from './documents.ts';

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

/** Reads the file. Throws ErrnoError: EUCLEAN for what it cannot be, EOPNOTSUPP for a repository that others write. */
export function readMeta(bytes: Uint8Array, what: string): RepositoryMeta {
  const { version, algorithm, features, erofs_formats: formats } = checked(Meta, parse(bytes, what), what);
  const refuse = (why: string): never => {
    throw new ErrnoError(EOPNOTSUPP, `${what}: ${why}`);
  };
  if (version !== VERSION) refuse(`version ${version} of a repository is not supported; version ${VERSION} is`);
  const unknown = [...features.incompatible, ...features['read-only-compatible'].filter(name => name !== V1_EROFS)];
  if (unknown.length > 0) refuse(`features that are not supported: ${unknown.join(', ')}`);
  const [, name] = /^fsverity-(sha256|sha512)-12$/.exec(algorithm) ?? [];
  if (name === undefined)
    refuse(`algorithm ${algorithm} is not supported; fsverity-sha256-12 and fsverity-sha512-12 are`);
  const format = formats?.default ?? (features['read-only-compatible'].includes(V1_EROFS) ? 1 : OLD_FORMAT);
  if (format !== 0 && format !== 1) refuse(`its images have format ${format}; formats 0 and 1 are supported`);
  return { algorithm: name as Algorithm, imageVersion: format as 0 | 1 };
}

/** Refuses another algorithm than that of the repository. Throws ErrnoError EINVAL. */
export function checkAlgorithm({ algorithm }: RepositoryMeta, wanted: Algorithm | undefined, what: string): void {
  if (wanted !== undefined && wanted !== algorithm)
    throw new ErrnoError(EINVAL, `${what}: the repository has ${algorithm}, not ${wanted}`);
}
