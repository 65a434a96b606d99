/** Names of images in registries. Source: the grammar of distribution/reference, as docker, podman and skopeo use it. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';

export interface RegistryReference {
  readonly transport: 'docker';
  /** The registry's name, with its port if one is given: what credentials and certificates are kept for. */
  readonly registry: string;
  readonly repository: string;
  /** A tag, or a digest. */
  readonly target: string;
}

/** The registry of names without a host, the path of its own images, and the host that serves it. */
const DEFAULT = { registry: 'docker.io', path: 'library/', host: 'registry-1.docker.io' } as const;
/** What a name in the default registry can begin with as well. */
const OLD_DEFAULT = 'index.docker.io';

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const HOST = new RegExp(`^(${LABEL}(\\.${LABEL})*|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?$`);
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const NAME_BYTES_MAX = 255;

/**
 * Parses what follows `docker:`: `//HOST[:PORT]/NAME[:TAG|@DIGEST]`. Without a host it is an image of docker.io, without a tag the
 * tag is `latest`, and a tag beside a digest is ignored. Throws ErrnoError EINVAL.
 */
export function parseRegistryReference(rest: ByteString): RegistryReference {
  const refuse = (why: string): never => {
    throw new ErrnoError(EINVAL, `docker:${printable(rest)}: ${why}`);
  };
  if (!rest.startsWith('//')) refuse('not docker://HOST/NAME');
  const [, named = '', digest] = /^([^@]*)(?:@(.*))?$/s.exec(rest.slice(2)) ?? [];
  const [, name = '', tag = 'latest'] = /^(.*?)(?::([^/:]*))?$/s.exec(named) ?? [];
  const { registry, repository } = split(name);
  if (!HOST.test(registry) || !URL.canParse(`https://${registry}`)) refuse('its host is none');
  if (name.length > NAME_BYTES_MAX) refuse(`a name of ${name.length} bytes; ${NAME_BYTES_MAX} are allowed`);
  if (/[A-Z]/.test(repository)) refuse('the name of a repository has no capitals');
  if (!REPOSITORY.test(repository)) refuse('its name is none of a repository');
  if (!TAG.test(tag)) refuse('its tag is none');
  if (digest !== undefined && !DIGEST.test(digest)) refuse('its digest is neither sha256:HEX nor sha512:HEX');
  return { transport: 'docker', registry, repository, target: digest ?? tag };
}

/** The first part of a name is a host if no repository could be called so. */
function split(name: ByteString): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isHost = /[.:A-Z]/.test(first) || first === 'localhost';
  const registry = isHost && first !== OLD_DEFAULT ? first : DEFAULT.registry;
  const repository = isHost ? name.slice(slash + 1) : name;
  if (registry !== DEFAULT.registry || repository.includes('/')) return { registry, repository };
  return { registry, repository: `${DEFAULT.path}${repository}` };
}

/** The host that serves a registry, with its port. */
export const hostOf = ({ registry }: RegistryReference): string =>
  registry === DEFAULT.registry ? DEFAULT.host : registry;
