/** An image in a registry. Its layers are fetched some at a time, ahead of those that are read. */
import type { ByteString } from '../../sys/bytes.ts';
import { ErrnoError } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import type { Descriptor } from '../documents.ts';
import { readAt } from '../files.ts';
import { closingIfFailed, manifestImage, type OpenImage } from '../image.ts';
import type { Platform } from '../platform.ts';
import type { Seal } from '../seals/artifact.ts';
import type { FetchedLayer, ImageSource } from '../source.ts';
import { TIMING, type Timing } from './attempts.ts';
import { RegistryClient } from './client.ts';
import { type Endpoint, endpointsOf } from './configuration/endpoints.ts';
import { readRegistriesConf } from './configuration/registries.ts';
import { Connections } from './connections.ts';
import { findCredentials } from './credentials.ts';
import type { Sized } from './download.ts';
import { hostOf, type RegistryReference } from './reference.ts';
import { referrersOf } from './referrers.ts';
import { uploadSeal } from './upload.ts';

export interface RegistryOptions {
  /** The only file with credentials to look in. */
  readonly authfile?: ByteString | undefined;
  /** Whether only HTTPS with a trusted certificate will do; undefined: as registries.conf says. */
  readonly verifies: boolean | undefined;
  /** The only directory with certificates of one's own to look in. */
  readonly certDirectory?: string | undefined;
  readonly timing?: Timing;
  /** Whether something is to be sent to the registry, too. */
  readonly writes?: boolean;
}

export interface RegistryImage extends OpenImage {
  /** Adds a seal of the image to the registry. Throws ErrnoError. */
  addSeal(seal: Seal): Promise<void>;
}

/**
 * Opens an image in the first registry that has it, of those that registries.conf names for it; its source has to be closed later.
 * Throws ErrnoError with the names of the registry, the repository and what was asked for.
 */
export async function openRegistryImage(
  reference: RegistryReference,
  platform: Platform | undefined,
  options: RegistryOptions,
): Promise<RegistryImage> {
  const endpoints = endpointsOf(reference, await readRegistriesConf(), options.writes === true);
  const failures: ErrnoError[] = [];
  for (const endpoint of endpoints)
    try {
      return await openAt(endpoint, platform, options);
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      failures.push(error);
    }
  const [last, ...mirrors] = failures.reverse() as [ErrnoError];
  if (mirrors.length === 0) throw last;
  throw new ErrnoError(last.errno, [last, ...mirrors.reverse()].map(({ message }) => message).join('; and before: '));
}

/** Opens an image in a registry, as `openRegistryImage` does. */
async function openAt(
  { reference, insecure }: Endpoint,
  platform: Platform | undefined,
  options: RegistryOptions,
): Promise<RegistryImage> {
  const { target } = reference;
  const source = new RegistrySource(reference, { ...options, verifies: options.verifies ?? !insecure });
  const image = await closingIfFailed(source, async () => {
    await source.connect();
    const manifest = (digest: string): string => `manifests/${digest}`;
    const top = { top: manifest(target), topDigest: target.includes(':') ? target : undefined };
    const blob = (digest: string): string => `blobs/${digest}`;
    const referrers = (subject: string) => source.referrers(subject);
    return manifestImage(source, { ...top, manifest, blob, referrers }, platform);
  });
  return { ...image, addSeal: seal => source.addSeal(image.manifest as string, seal) };
}

/** The host of a registry as addresses have it: without the port that is usual. */
const urlHost = (reference: RegistryReference): string => new URL(`https://${hostOf(reference)}`).host;

/** A layer that is fetched, or will be. */
interface Fetch {
  readonly path: string;
  readonly blob: Sized;
  /** The file that has it in the end. */
  file: Promise<number> | undefined;
  bytes: number;
  count: (bytes: number) => void;
}

/** So many layers are fetched at a time, counting the one that is read. */
const AHEAD = 4;
const READ_BYTES = 1 << 18;

class RegistrySource implements ImageSource {
  readonly shown: string;
  readonly #connections: Connections;
  readonly #client: RegistryClient;
  readonly #stopping = new AbortController();
  #fetches: Fetch[] = [];
  #makeFile: () => number = () => -1;

  constructor(
    reference: RegistryReference,
    { authfile, verifies, certDirectory, timing = TIMING, writes = false }: RegistryOptions & { verifies: boolean },
  ) {
    const certificates =
      certDirectory === undefined ? undefined : { directory: certDirectory, host: urlHost(reference) };
    this.#connections = new Connections(verifies, certificates);
    this.#client = new RegistryClient(reference, {
      ...{ connections: this.#connections, verifies, timing, stopped: this.#stopping.signal, writes },
      findCredentials: () => findCredentials(reference, authfile),
    });
    this.shown = this.#client.shown;
  }

  connect(): Promise<void> {
    return this.#client.connect();
  }

  document(name: string, expected?: Sized): Promise<Uint8Array> {
    return this.#client.document(name, expected);
  }

  referrers(subject: string): Promise<readonly Descriptor[]> {
    return referrersOf(this.#client, subject);
  }

  addSeal(subject: string, seal: Seal): Promise<void> {
    return uploadSeal(this.#client, subject, seal);
  }

  fetchAhead(layers: readonly FetchedLayer[], makeFile: () => number): void {
    this.#makeFile = makeFile;
    this.#fetches = layers.map(({ path, blob }) => {
      return { path, blob: blob as Sized, file: undefined, bytes: 0, count: () => {} };
    });
  }

  async *blob(name: string, _expected: unknown, count: (bytes: number) => void): AsyncGenerator<Uint8Array> {
    const [fetch] = this.#fetches;
    if (fetch?.path !== name) throw new Error(`${name} is not the next layer`);
    for (const next of this.#fetches.slice(0, AHEAD)) this.#begin(next);
    fetch.count = count;
    count(fetch.bytes);
    const fd = await (fetch.file as Promise<number>);
    this.#fetches.shift();
    const file = { fd, at: 0, sizeBytes: fetch.blob.size, close: () => native.close(fd) };
    try {
      for (let at = 0; at < file.sizeBytes; at += READ_BYTES)
        yield readAt(file, at, Math.min(READ_BYTES, file.sizeBytes - at), `${this.shown}/${name}`);
    } finally {
      file.close();
    }
  }

  close(): void {
    this.#stopping.abort();
    for (const { file } of this.#fetches) file?.then(native.close, () => {});
    this.#connections.close();
  }

  #begin(fetch: Fetch): void {
    if (fetch.file) return;
    fetch.file = this.#fetch(fetch);
    fetch.file.catch(() => {}); // is thrown when the layer is read
  }

  async #fetch(fetch: Fetch): Promise<number> {
    const fd = this.#makeFile();
    try {
      await this.#client.blob(fetch.path, fetch.blob, fd, bytes => {
        fetch.bytes = bytes;
        fetch.count(bytes);
      });
      return fd;
    } catch (error) {
      native.close(fd);
      throw error;
    }
  }
}
