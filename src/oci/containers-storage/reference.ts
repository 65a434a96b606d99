/** Names of images in the storage of podman and buildah. Source: containers-transports(5), "containers-storage". */
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { parseRegistryReference } from '../registry/reference.ts';

export interface StorageReference {
  readonly transport: 'containers-storage';
  /** The driver, if the reference says it. */
  readonly driver: string | undefined;
  /** The directory of the storage; undefined for that of the user. */
  readonly root: ByteString | undefined;
  /** The name or the ID of an image, as text. */
  readonly image: string;
}

/**
 * Parses what follows `containers-storage:`: `[[DRIVER@]ROOT[+RUNROOT][:OPTIONS]]IMAGE`. RUNROOT and OPTIONS have no meaning for reading.
 * Throws ErrnoError EINVAL.
 */
export function parseStorageReference(rest: ByteString): StorageReference {
  const [, place, image = ''] = /^(?:\[([^\]]*)\])?([^[\]]+)$/s.exec(rest) ?? [];
  const [, driver, root] = /^(?:([^@/]*)@)?(\/[^+:]*)(?:[+:].*)?$/s.exec(place ?? '') ?? [];
  if (image === '' || (place !== undefined && root === undefined))
    throw new ErrnoError(
      EINVAL,
      `containers-storage:${printable(rest)}: not containers-storage:[[DRIVER@]/ROOT[+RUNROOT]]IMAGE`,
    );
  const text = (word: ByteString): string => bufferOf(word).toString('utf8');
  return { transport: 'containers-storage', driver: driver && text(driver), root, image: text(image) };
}

/**
 * What a storage may call an image that is named so, the likeliest first: as it is, with the tag `latest`, below `localhost`, where podman
 * puts what is built here, and as docker completes names.
 */
export function namesOf(image: string): string[] {
  const base = image.slice(image.lastIndexOf('/') + 1);
  const tagged = /[:@]/.test(base) ? image : `${image}:latest`;
  const names = [image, tagged, `localhost/${tagged}`];
  try {
    const { registry, repository, target } = parseRegistryReference(`//${byteStringFromText(image)}`);
    names.push(`${registry}/${repository}${target.includes(':') ? '@' : ':'}${target}`);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error; // no name of a registry, but perhaps an ID
  }
  return [...new Set(names)];
}
