/** Adds the seal of an image to a registry. Source: OCI distribution-spec v1.1, "Push", "Pushing Manifests with Subject". */
import { EBUSY, EEXIST, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { listed, MANIFEST_TYPE, readWholeIndex, type Seal, sealBlobs } from '../seals/artifact.ts';
import type { RegistryClient } from './client.ts';
import type { Answer } from './connections.ts';
import { INDEX, isIndex, referrersTag } from './referrers.ts';

const CREATED = 201;
const ACCEPTED = 202;
const NOT_FOUND = 404;
/** So often a list is written that others change at the same time. */
const ROUNDS_MAX = 5;

/**
 * Uploads an artifact with its blobs, and sees to it that the registry lists it for its subject: where that has no API for this, by a
 * tag that is made of the subject's digest. Throws ErrnoError with what was refused.
 */
export async function uploadSeal(client: RegistryClient, subject: string, seal: Seal): Promise<void> {
  for (const [digest, bytes] of sealBlobs(seal)) await uploadBlob(client, digest, bytes);
  const isListed = await uploadManifest(client, seal.digest, MANIFEST_TYPE, seal.bytes);
  if (!isListed) await addToTag(client, `manifests/${referrersTag(subject)}`, seal);
}

function uploadBlob(client: RegistryClient, digest: string, bytes: Uint8Array): Promise<void> {
  const what = `${client.shown}/blobs/${digest}`;
  return client.write(what, async send => {
    const begun = await send('blobs/uploads/', { method: 'POST' });
    if (begun.status !== ACCEPTED) await client.refuseWrite(begun, what);
    const place = await client.locationIn(begun, what);
    place.search += `${place.search ? '&' : '?'}digest=${encodeURIComponent(digest)}`; // the rest as the registry has it
    const headers = { 'content-type': 'application/octet-stream' };
    const answer = await send(place, { method: 'PUT', headers, body: bytes });
    if (answer.status !== CREATED) await client.refuseWrite(answer, what);
    await checkStored(answer, digest, what);
  });
}

/** @returns whether the registry lists it for its subject */
function uploadManifest(client: RegistryClient, name: string, type: string, body: Uint8Array): Promise<boolean> {
  const path = `manifests/${name}`;
  const what = `${client.shown}/${path}`;
  return client.write(what, async send => {
    const answer = await send(path, { method: 'PUT', headers: { 'content-type': type }, body });
    if (answer.status !== CREATED) await client.refuseWrite(answer, what);
    if (name.includes(':')) await checkStored(answer, name, what);
    else await answer.end();
    return answer.header('oci-subject') !== undefined;
  });
}

/** Compares the digest that the registry has computed, if it says that, with the right one. */
async function checkStored(answer: Answer, digest: string, what: string): Promise<void> {
  await answer.end();
  const stored = answer.header('docker-content-digest');
  if (stored !== undefined && stored !== digest)
    throw new ErrnoError(EUCLEAN, `${what}: ${answer.url.host} has stored something else, ${stored}`);
}

/** Adds a seal to the list that a tag has, and looks whether it is there then, because others may write the list, too. */
async function addToTag(client: RegistryClient, path: string, seal: Seal): Promise<void> {
  const what = `${client.shown}/${path}`;
  for (let round = 0; ; round++) {
    const found = await client.find(path, INDEX, [NOT_FOUND]);
    if (found !== undefined && !isIndex(found))
      throw new ErrnoError(EEXIST, `${what}: is no list of what refers to the image, but ${found.mediaType}`);
    const index = found ? readWholeIndex(found.bytes, what) : { schemaVersion: 2, mediaType: INDEX, manifests: [] };
    const bytes = listed(index, seal);
    if (bytes === undefined) return;
    if (round === ROUNDS_MAX) throw new ErrnoError(EBUSY, `${what}: others change it all the time`);
    await uploadManifest(client, path.slice('manifests/'.length), INDEX, bytes);
  }
}
