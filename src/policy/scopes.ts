/** The scopes of an image, from the most specific one on. Source: containers-policy.json(5), "Supported transports and their scopes". */
import { namesOf } from '../oci/containers-storage/reference.ts';
import type { Reference } from '../oci/reference.ts';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { realPath } from '../sys/real-path.ts';

/** What a policy knows of an image. */
export interface Place {
  readonly transport: string;
  /** Without the scope `""`, which every image has. */
  readonly scopes: readonly ByteString[];
}

/** Of an image in a repository. Throws as node:fs does. */
export function placeInStore(store: ByteString, name: ByteString): Place {
  const root = `[${realPath(store)}]`;
  return { transport: 'lowerdata-store', scopes: [root + name, root] };
}

/** Of an image that is a file. Throws as node:fs does. */
export const placeOfFile = (path: ByteString): Place => ({ transport: 'lowerdata-image', scopes: pathScopes(path) });

/** Of an image that is pulled. Throws as node:fs does. */
export function placeOfReference(reference: Reference): Place {
  const { transport } = reference;
  if (transport === 'docker') {
    const { registry, repository, target } = reference;
    return { transport, scopes: dockerScopes(`${registry}/${repository}`, target) };
  }
  if (transport === 'containers-storage') {
    const { root, driver, image } = reference;
    const stores = root === undefined ? [] : [...(driver ? [`[${driver}@${root}]`] : []), `[${root}]`];
    const names = namesOf(image).map(byteStringFromText);
    return { transport, scopes: stores.flatMap(store => [...names.map(name => store + name), store]) };
  }
  const scopes = transport === 'docker-archive' ? [] : pathScopes(reference.path); // as in containers/image
  // as the page says; containers/image does not know a tag here, and passes over a rule for it
  const tagged = transport === 'oci' && reference.name !== undefined ? `:${byteStringFromText(reference.name)}` : '';
  return { transport, scopes: tagged === '' ? scopes : [`${scopes[0]}${tagged}`, ...scopes] };
}

/** A path without symlinks and the directories above, without the root. */
function pathScopes(path: ByteString): ByteString[] {
  const scopes: ByteString[] = [];
  for (let at = realPath(path); at !== ''; at = at.slice(0, at.lastIndexOf('/'))) scopes.push(at);
  return scopes;
}

/** The image, its repository, the names above, the host, and the domains of the host. */
function dockerScopes(name: string, target: string): string[] {
  const parts = name.split('/');
  const prefixes = parts.map((_, i) => parts.slice(0, parts.length - i).join('/'));
  const labels = (parts[0] ?? '').replace(/:\d+$/, '').split('.');
  const domains = labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join('.')}`);
  return [`${name}${target.includes(':') ? '@' : ':'}${target}`, ...prefixes, ...domains];
}
