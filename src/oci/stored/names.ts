/** The names of images in a repository: tags, which lead to manifests, and names of images themselves. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { encodeTag, TAGS } from '../streams/names.ts';
import { IMAGE_REFS } from './image-links.ts';
import { isTemporary, type StoredRepository } from './repository.ts';

/** The directory of tags. */
export const TAG_REFS = `streams/${TAGS}`;

/** The path of a tag. */
export const tagPath = (name: ByteString): ByteString => `${TAG_REFS}/${encodeTag(name)}`;

/** The name of a tag, by that of its file. */
export const decodeTag = (file: ByteString): ByteString =>
  file.replace(/%(2F|25)/g, (_, code: string) => (code === '2F' ? '/' : '%'));

/** All names, each once, in byte order; also those that lead to nothing. */
export function namesOf(repository: StoredRepository): ByteString[] {
  const links = (directory: ByteString): ByteString[] =>
    repository.namesBelow(directory).flatMap(({ name, isLink }) => (isLink && !isTemporary(name) ? [name] : []));
  return [...new Set([...links(TAG_REFS).map(decodeTag), ...links(IMAGE_REFS)])].sort();
}

/** The digest of the manifest that a tag leads to; undefined without that tag. Throws ErrnoError with its path: EUCLEAN. */
export function taggedManifest(repository: StoredRepository, name: ByteString): string | undefined {
  if (['', '.', '..'].includes(name) || encodeTag(name).length > NAME_MAX) return undefined;
  const path = tagPath(name);
  if (repository.isDirectory(path)) return undefined;
  const target = repository.target(path);
  if (target === undefined) return undefined;
  const [, digest] = MANIFEST_STREAM.exec(target) ?? [];
  if (digest !== undefined) return digest;
  throw new ErrnoError(EUCLEAN, `${repository.shown(path)}: leads to ${printable(target)}, which is no manifest`);
}

/**
 * The digest of the manifest that a tag leads to, if the tag counts: the image that the same name has in `images/refs` was named before.
 * For a configuration leads to the image that was made of it last, and other programs move tags alone.
 */
export function countingManifest(repository: StoredRepository, name: ByteString): string | undefined {
  const manifest = taggedManifest(repository, name);
  const named = manifest === undefined ? undefined : repository.time(`${IMAGE_REFS}/${name}`);
  if (named === undefined) return manifest;
  const tagged = repository.time(tagPath(name)) ?? [0, 0];
  return tagged[0] > named[0] || (tagged[0] === named[0] && tagged[1] > named[1]) ? manifest : undefined;
}
const NAME_MAX = 255;
const MANIFEST_STREAM = /^streams\/oci-manifest-(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
