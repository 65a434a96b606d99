/** Records a seal of an image as composefs-rs records artifacts: a manifest that leads to its configuration and to its blobs. */
import { EMPTY_CONFIG, EMPTY_DIGEST, type Seal } from '../seals/artifact.ts';
import { blobStream, configName, configStream, manifestStream } from './names.ts';
import { addDocument } from './record-image.ts';
import type { Streams } from './stored.ts';

/** Records a seal, which then belongs to its image. Throws ErrnoError with the path in the store. @param subject the digest of the image's manifest */
export function recordSeal(streams: Streams, subject: string, { digest, bytes, entries, signatures }: Seal): void {
  const config = addDocument(streams, configStream(EMPTY_DIGEST), 'config', EMPTY_CONFIG, []);
  const blobs = entries.map(({ signature }, i): [string, string] => [
    signature.digest,
    addDocument(streams, blobStream(signature.digest), 'blob', signatures[i] as Uint8Array, []),
  ]);
  addDocument(streams, manifestStream(digest), 'manifest', bytes, [[configName(EMPTY_DIGEST), config], ...blobs]);
  streams.refer(subject, digest);
}
