/** Which registries are asked for an image, by what registries.conf says. Source: containers-registries.conf(5). */
import { byteStringFromText } from '../../../sys/bytes.ts';
import { EACCES, EINVAL, ErrnoError } from '../../../sys/errno.ts';
import { parseRegistryReference, type RegistryReference } from '../reference.ts';
import type { RegistryRules } from './registries.ts';

/** A registry to ask, and for which name. */
export interface Endpoint {
  readonly reference: RegistryReference;
  /** Whether any certificate will do, and plain HTTP. */
  readonly insecure: boolean;
}

/**
 * The registries to ask, in their order. Throws ErrnoError: EACCES for a name that is blocked, EINVAL for a location that makes no
 * name of it.
 * @param writes whether something is to be sent: then the registry of the name is the only one
 */
export function endpointsOf(
  reference: RegistryReference,
  rules: readonly RegistryRules[],
  writes: boolean,
): Endpoint[] {
  const name = nameOf(reference);
  const fits = rules.map(rule => ({ rule, bytes: matchedBytes(name, rule.prefix) })).filter(({ bytes }) => bytes > 0);
  const found = fits.reduce<(typeof fits)[number] | undefined>(
    (best, each) => (best && best.rule.prefix.length >= each.rule.prefix.length ? best : each),
    undefined,
  );
  if (found === undefined) return [{ reference, insecure: false }];
  const { rule, bytes } = found;
  if (rule.blocked) throw new ErrnoError(EACCES, `docker://${name}: ${rule.prefix} is blocked in ${rule.from}`);
  if (writes) return [{ reference, insecure: rule.insecure }];
  const isDigest = reference.target.includes(':');
  const mirrors = rule.mirrors.filter(({ pulls }) => pulls === 'all' || (pulls === 'digest-only') === isDigest);
  return [...mirrors, rule].map(({ location, insecure }) => {
    const moved = location === '' ? name : `${location}${name.slice(bytes)}`;
    return { reference: moved === name ? reference : parsed(moved, rule.from), insecure };
  });
}

const nameOf = ({ registry, repository, target }: RegistryReference): string =>
  `${registry}/${repository}${target.includes(':') ? '@' : ':'}${target}`;

/** How much of a name a prefix stands for; 0 for one that does not fit. */
function matchedBytes(name: string, prefix: string): number {
  const domain = prefix.startsWith('*.') ? prefix.slice(1) : undefined;
  const at = domain === undefined ? 0 : name.indexOf(domain);
  const bytes = at + (domain ?? prefix).length;
  if (at < 0 || name.slice(0, at).includes('/') || !name.startsWith(domain ?? prefix, at)) return 0;
  return bytes === name.length || /[:/@]/.test(name[bytes] as string) ? bytes : 0;
}

function parsed(name: string, from: string): RegistryReference {
  try {
    return parseRegistryReference(byteStringFromText(`//${name}`));
  } catch (error) {
    throw new ErrnoError(EINVAL, `${from}: ${(error as Error).message}`);
  }
}
