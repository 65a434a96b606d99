/** What refers to a manifest in a registry. Source: OCI distribution-spec v1.1, "Listing Referrers", "Referrers Tag Schema". */
import type { Descriptor } from '../documents.ts';
import { ARTIFACT_TYPE, artifactsIn } from '../seals/artifact.ts';
import type { FoundDocument, RegistryClient } from './client.ts';

export const INDEX = 'application/vnd.oci.image.index.v1+json';
/** What registries answer that do not know the API. The specification wants 404. */
const WITHOUT_API: readonly number[] = [400, 404, 405, 406, 501];
const NOT_FOUND: readonly number[] = [404];
/** More pages of the list are not asked for. */
const PAGES_MAX = 8;
/** More are not kept in memory. */
const LISTED_MAX = 10_000;

/**
 * Lists the artifacts of a manifest that may be seals: by the API, or where a registry does not have that, by a tag that is made of the
 * digest. Throws ErrnoError.
 */
export async function referrersOf(client: RegistryClient, subject: string): Promise<readonly Descriptor[]> {
  const found: Descriptor[] = [];
  let query: string | undefined = `?artifactType=${encodeURIComponent(ARTIFACT_TYPE)}`;
  for (let page = 0; query !== undefined && page < PAGES_MAX && found.length < LISTED_MAX; page++) {
    const path = `referrers/${subject}${query}`;
    const answer: FoundDocument | undefined = await client.find(path, INDEX, page === 0 ? WITHOUT_API : []);
    if (answer === undefined || !isIndex(answer)) return page === 0 ? tagged(client, subject) : found;
    found.push(...sealsIn(answer.bytes, `${client.shown}/${path}`));
    query = nextQuery(answer.link);
  }
  return found;
}

/** A server that answers everything, such as with a page for people, does not know the API. */
export const isIndex = ({ mediaType }: FoundDocument): boolean => mediaType?.split(';')[0]?.trim() === INDEX;

async function tagged(client: RegistryClient, subject: string): Promise<readonly Descriptor[]> {
  const path = `manifests/${referrersTag(subject)}`;
  const answer = await client.find(path, INDEX, NOT_FOUND);
  return answer === undefined ? [] : sealsIn(answer.bytes, `${client.shown}/${path}`);
}

/** In a registry, descriptors have the type of the artifact. */
const sealsIn = (index: Uint8Array, what: string): Descriptor[] =>
  artifactsIn(index, what).filter(({ artifactType }) => artifactType === ARTIFACT_TYPE);

/** The tag that lists what refers to a manifest, where a registry has no API for that. */
export function referrersTag(subject: string): string {
  const [algorithm = '', encoded = ''] = subject.split(':');
  return `${algorithm.slice(0, 32)}-${encoded.slice(0, 64)}`;
}

/** The query of the next page; only the query of the link is taken, so that it leads nowhere else. Source: RFC 8288. */
function nextQuery(link: string | undefined): string | undefined {
  const [, target] = /^\s*<([^>]*)>\s*;\s*rel="?next"?/.exec(link ?? '') ?? [];
  if (target === undefined || !URL.canParse(target, 'http://x')) return undefined;
  return new URL(target, 'http://x').search || undefined;
}
