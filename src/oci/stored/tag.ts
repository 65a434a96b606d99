/** Gives images of a repository further names, and takes names away. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { removeLayerNames, removeName, replaceLink } from '../links.ts';
import { checkName } from '../repository.ts';
import { manifestStream } from '../streams/names.ts';
import { IMAGE_REFS, isDigest } from './image-links.ts';
import { digestNamed, unknownName } from './images.ts';
import { taggedManifest, tagPath } from './names.ts';
import type { StoredRepository } from './repository.ts';

/**
 * Gives an image another name, in place of the image that had it. @returns the digest of the image
 * Throws ErrnoError: EINVAL for a name that cannot be one; otherwise as `digestNamed`.
 */
export async function tagImage(repository: StoredRepository, name: ByteString, other: ByteString): Promise<string> {
  checkName(other);
  if (isDigest(other)) throw new ErrnoError(EINVAL, `${printable(other)}: the name of an image is no digest`);
  const digest = await digestNamed(repository, name);
  const manifest = taggedManifest(repository, name);
  const tag = tagPath(other);
  if (manifest !== undefined)
    replaceLink(repository.fd, tag, `../../${manifestStream(manifest)}`, repository.shown(tag));
  const path = `${IMAGE_REFS}/${other}`; // is made last, so that it counts
  const up = '../'.repeat(path.split('/').length - 2);
  replaceLink(repository.fd, path, `${up}${digest}`, repository.shown(path));
  if (manifest === undefined) removeName(repository.fd, tag, repository.shown(tag));
  return digest;
}

/** Takes a name away, also one that leads to nothing, and those of the layers below it; the images stay. Throws ErrnoError ENOENT for a name that is not there. */
export function untagImage(repository: StoredRepository, name: ByteString): void {
  const isName = name.split('/').every(part => !['', '.', '..'].includes(part));
  const paths = isName ? [tagPath(name), `${IMAGE_REFS}/${name}`] : [];
  const there = paths.filter(path => repository.isLink(path));
  if (there.length === 0) throw unknownName(repository, name);
  for (const path of there) removeName(repository.fd, path, repository.shown(path));
  removeLayerNames(repository.fd, name, 1, repository.path);
}
