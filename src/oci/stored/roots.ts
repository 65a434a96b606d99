/** What a repository keeps: all that its names lead to, and what is mounted. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { manifestStream, REFERRERS as REFERRERS_DIRECTORY } from '../streams/names.ts';
import { IMAGE_REFS, imageNamed } from './image-links.ts';
import { decodeTag } from './names.ts';
import { streamObject } from './oci-image.ts';
import { type Reach, streamPath } from './reach.ts';
import { isTemporary, type StoredRepository } from './repository.ts';

const STREAM_REFS = 'streams/refs';
/** The same directory, below the one of all names of streams. */
const REFERRERS = `${REFERRERS_DIRECTORY.replace(/^refs\//, '')}/`;

/**
 * Adds what all names lead to. @returns the paths of names that keep nothing: those of artifacts whose image is gone
 * Throws ErrnoError with the path of a name that leads to nothing, and as `Reach.add`.
 */
export function addNamed(repository: StoredRepository, reach: Reach): ByteString[] {
  for (const { name, isLink } of repository.namesBelow(IMAGE_REFS)) {
    if (!isLink || isTemporary(name)) continue;
    const digest = imageNamed(repository, name);
    if (digest !== undefined) reach.add(digest, repository.shown(`${IMAGE_REFS}/${name}`));
  }
  let waiting: ByteString[] = [];
  for (const { name, isLink } of repository.namesBelow(STREAM_REFS)) {
    if (!isLink || isTemporary(name)) continue;
    if (name.startsWith(REFERRERS)) waiting.push(name);
    else addStream(repository, reach, name);
  }
  for (let before = -1; before !== waiting.length; ) {
    before = waiting.length;
    waiting = waiting.filter(name => {
      if (!isSubjectKept(repository, reach, name)) return true;
      addStream(repository, reach, name);
      return false;
    });
  }
  return waiting.map(name => `${STREAM_REFS}/${name}`);
}

function addStream(repository: StoredRepository, reach: Reach, name: ByteString): void {
  const path = `${STREAM_REFS}/${name}`;
  const target = repository.target(path);
  const [, stream] = /^streams\/([^/]+)$/.exec(target ?? '') ?? [];
  const shown = repository.shown(path);
  if (stream === undefined || stream === 'refs')
    throw new ErrnoError(EUCLEAN, `${shown}: leads to ${printable(target ?? '')}, which is no stream`);
  try {
    reach.add(streamObject(repository, streamPath(stream)), repository.shown(streamPath(stream)));
  } catch (error) {
    if (
      !(error instanceof ErrnoError) ||
      error.errno !== ENOENT ||
      !error.message.startsWith(repository.shown('streams'))
    )
      throw error;
    throw new ErrnoError(ENOENT, `${shown}: leads to nothing: ${error.message}`);
  }
}

function isSubjectKept(repository: StoredRepository, reach: Reach, name: ByteString): boolean {
  const [, subject = ''] = name.split('/');
  const path = streamPath(manifestStream(decodeTag(subject)));
  return repository.isLink(path) && reach.objects.has(streamObject(repository, path));
}
