/** Names of images, as containers-transports(5) writes them: the kind of place, a path, and which of its images. */
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { parseStorageReference, type StorageReference } from './containers-storage/reference.ts';
import { parseRegistryReference, type RegistryReference } from './registry/reference.ts';

/** The kinds of places, each with its form. */
export const TRANSPORTS = {
  docker: 'docker://HOST/NAME[:TAG|@DIGEST]',
  oci: 'oci:DIR[:TAG]',
  'oci-archive': 'oci-archive:FILE[:TAG]',
  dir: 'dir:DIR',
  'docker-archive': 'docker-archive:FILE[:NAME]',
  'containers-storage': 'containers-storage:[[DRIVER@]ROOT]NAME',
} as const;
export type Transport = keyof typeof TRANSPORTS;

export interface LocalReference {
  readonly transport: Exclude<Transport, 'docker' | 'containers-storage'>;
  readonly path: ByteString;
  /** The tag or name of one image of several, as text. */
  readonly name: string | undefined;
}
export type Reference = LocalReference | RegistryReference | StorageReference;

/** Kinds of places that other programs know, with what leads from them to one of ours. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'docker-daemon': 'save the image with `docker save -o FILE …`, and take docker-archive:FILE',
};

/** Parses a reference. As in other programs, the first colon ends the path. Throws ErrnoError EINVAL. */
export function parseReference(text: ByteString): Reference {
  const [, transport = '', rest = ''] = /^([a-z-]+):(.*)$/s.exec(text) ?? [];
  if (!isTransport(transport)) {
    const hint = Object.hasOwn(ELSEWHERE, transport) ? `; ${ELSEWHERE[transport]}` : '';
    const known = Object.values(TRANSPORTS).join(', ');
    throw new ErrnoError(EINVAL, `${printable(text)}: not one of ${known}${hint}`);
  }
  if (transport === 'docker') return parseRegistryReference(rest);
  if (transport === 'containers-storage') return parseStorageReference(rest);
  const [, path = '', name] = /^([^:]*)(?::(.*))?$/s.exec(rest) ?? [];
  if (path === '') throw new ErrnoError(EINVAL, `${printable(text)}: no path follows ${transport}:`);
  if (name === '') throw new ErrnoError(EINVAL, `${printable(text)}: nothing follows the last colon`);
  if (transport === 'dir' && name !== undefined)
    throw new ErrnoError(EINVAL, `${printable(text)}: dir: has one image, without a name`);
  return { transport, path, name: name && bufferOf(name).toString('utf8') };
}

const isTransport = (word: string): word is Transport => Object.hasOwn(TRANSPORTS, word);
