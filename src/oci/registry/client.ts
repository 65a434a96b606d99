/** A registry's documents and blobs. Source: OCI distribution-spec v1.1, "Pull". */
import { EPROTO, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { DigestCheck, type Expected } from '../blobs.ts';
import { DOCUMENT_BYTES_MAX } from '../documents.ts';
import { type Attempt, busyAnswer, Passing, repeating, statusText, type Timing } from './attempts.ts';
import { Authorization } from './authorization.ts';
import { type Answer, type Connections, type Question, readBytes } from './connections.ts';
import type { FoundCredentials } from './credentials.ts';
import { Download, type Sized } from './download.ts';
import { hostOf, type RegistryReference } from './reference.ts';
import { refuse, WRITE_MEANINGS } from './refusal.ts';

/** What manifests are asked for as. */
const MANIFESTS = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

export interface ClientOptions {
  readonly connections: Connections;
  readonly findCredentials: () => FoundCredentials;
  /** Whether only HTTPS with a trusted certificate will do. */
  readonly verifies: boolean;
  readonly timing: Timing;
  /** Ends everything. */
  readonly stopped: AbortSignal;
  /** Whether something is to be sent, too. */
  readonly writes: boolean;
}

/** Sends a request to a path of the repository, or to an address that the registry has named. */
export type Send = (place: string | URL, question: Omit<Question, 'authorization' | 'signal'>) => Promise<Answer>;

/** A document that nothing is known of before. */
export interface FoundDocument {
  readonly bytes: Uint8Array;
  /** The headers Content-Type and Link. */
  readonly mediaType: string | undefined;
  readonly link: string | undefined;
}

export class RegistryClient {
  /** The registry and the repository, for messages. */
  readonly shown: string;
  readonly #reference: RegistryReference;
  readonly #options: ClientOptions;
  readonly #authorization: Authorization;
  #base: URL | undefined;

  constructor(reference: RegistryReference, options: ClientOptions) {
    const { registry, repository } = reference;
    this.shown = `docker://${registry}/${repository}`;
    this.#reference = reference;
    this.#options = options;
    const { connections, findCredentials, verifies, writes } = options;
    const scope = `repository:${repository}:pull${writes ? ',push' : ''}`;
    this.#authorization = new Authorization(connections, scope, findCredentials, verifies);
  }

  /**
   * Finds out how the registry speaks: by HTTPS, or also by plain HTTP if that is allowed, and whether it wants credentials. Throws
   * ErrnoError.
   */
  async connect(): Promise<void> {
    const { verifies } = this.#options;
    try {
      await this.#ping('https');
    } catch (error) {
      if (verifies || !(error instanceof ErrnoError)) throw error;
      await this.#ping('http').catch(plainError => {
        throw plainError instanceof ErrnoError ? new ErrnoError(error.errno, bothWords(error, plainError)) : plainError;
      });
    }
  }

  /**
   * A manifest, an index or a configuration, checked by size and digest. Throws ErrnoError.
   * @param path `manifests/…` or `blobs/…`
   * @param expected undefined for a tag, whose digest is compared with the one that the registry gives
   */
  async document(path: string, expected: Expected | undefined): Promise<Uint8Array> {
    const what = `${this.shown}/${path}`;
    const bytesMax = Math.min(expected?.size ?? DOCUMENT_BYTES_MAX, DOCUMENT_BYTES_MAX);
    if ((expected?.size ?? 0) > bytesMax)
      throw new ErrnoError(EUCLEAN, `${what}: ${expected?.size} bytes; ${bytesMax} are allowed`);
    const { timing } = this.#options;
    const accept = path.startsWith('manifests/') ? MANIFESTS : '*/*';
    return this.#repeating(
      what,
      async attempt => {
        const answer = await this.#ask(path, { headers: { accept } }, attempt);
        if (answer.status !== 200) await refuse(answer, what);
        const bytes = await readBytes(answer, bytesMax, what);
        checkDocument(bytes, expected ?? given(answer), what);
        return bytes;
      },
      timing.documentMs,
    );
  }

  /** What a path of the repository has; undefined for an answer with one of these statuses. Throws ErrnoError. */
  async find(path: string, accept: string, statuses: readonly number[]): Promise<FoundDocument | undefined> {
    const what = `${this.shown}/${path}`;
    const { timing } = this.#options;
    return this.#repeating(
      what,
      async attempt => {
        const answer = await this.#ask(path, { headers: { accept } }, attempt);
        const { status } = answer;
        if (status !== 200 && statuses.includes(status)) return answer.end().then(() => undefined);
        if (status !== 200) await refuse(answer, what);
        const bytes = await readBytes(answer, DOCUMENT_BYTES_MAX, what);
        return { bytes, mediaType: answer.header('content-type'), link: answer.header('link') };
      },
      timing.documentMs,
    );
  }

  /**
   * Writes a blob to a file, checked by size and digest. After a break it goes on where that was. Throws ErrnoError.
   * @param count is called with the number of bytes that are there
   */
  async blob(path: string, expected: Sized, fd: number, count: (bytes: number) => void): Promise<void> {
    const what = `${this.shown}/${path}`;
    const download = new Download(expected, fd, what, count);
    await this.#repeating(what, async attempt => {
      if (download.isComplete) return;
      const answer = await this.#ask(path, { headers: download.headers }, attempt);
      try {
        await download.take(answer, attempt);
      } catch (error) {
        if (!(error instanceof Passing && download.isComplete)) throw error; // the end of a body may be missing
      }
    });
    download.finish();
  }

  /** Sends something, again from the start if it fails in passing. Throws ErrnoError. @param what names it, for messages */
  write<T>(what: string, action: (send: Send) => Promise<T>): Promise<T> {
    const send =
      (attempt: Attempt): Send =>
      (place, question) =>
        this.#ask(place, question, attempt);
    return this.#repeating(what, attempt => action(send(attempt)), this.#options.timing.documentMs);
  }

  /** The address that an answer names for the next request. Throws ErrnoError EPROTO. */
  async locationIn(answer: Answer, what: string): Promise<URL> {
    await answer.end();
    const location = answer.header('location');
    if (location === undefined)
      throw new ErrnoError(EPROTO, `${what}: ${answer.url.host} does not say where it wants what is sent`);
    return this.#options.connections.follow(answer.url, location, what);
  }

  /** Throws what the answer to something that was sent means. */
  refuseWrite(answer: Answer, what: string): Promise<never> {
    return refuse(answer, what, WRITE_MEANINGS, `; ${this.#authorization.basis}`);
  }

  #repeating<T>(what: string, action: (attempt: Attempt) => Promise<T>, deadlineMs?: number): Promise<T> {
    const { timing, stopped } = this.#options;
    return repeating(what, timing, stopped, action, deadlineMs);
  }

  async #ping(scheme: 'http' | 'https'): Promise<void> {
    const url = new URL(`${scheme}://${hostOf(this.#reference)}/v2/`);
    await this.#repeating(
      this.shown,
      async ({ signal }) => {
        const answer = await this.#options.connections.ask(url, this.shown, { signal });
        await answer.end();
        const { status } = answer;
        if (status === 401 && answer.url.origin === url.origin) await this.#authorization.renew(answer, undefined);
        else if (status !== 200)
          throw (
            busyAnswer(status, answer.header('retry-after')) ??
            new ErrnoError(
              EPROTO,
              `${this.shown}: ${url.host} is no registry: it answers ${statusText(status)} to /v2/`,
            )
          );
        this.#base = url;
      },
      this.#options.timing.documentMs,
    );
  }

  /** Asks for a path, with credentials if the registry wants some: again with new ones if it refuses a token, which may be old. */
  async #ask(place: string | URL, question: Parameters<Send>[1], attempt: Attempt): Promise<Answer> {
    const base = this.#base as URL;
    const url = typeof place === 'string' ? new URL(`${this.#reference.repository}/${place}`, base) : place;
    const what = `${this.shown}/${typeof place === 'string' ? place : 'blobs/uploads/'}`;
    const isOwn = url.origin === base.origin;
    const { signal } = attempt;
    for (let isAgain = false; ; isAgain = true) {
      const authorization = isOwn ? await this.#authorization.header(what, attempt) : undefined;
      const answer = await this.#options.connections.ask(url, what, { ...question, authorization, signal });
      if (answer.status !== 401 || answer.url.origin !== base.origin) return answer;
      await answer.end();
      if (isAgain) throw this.#authorization.refusal(what);
      await this.#authorization.renew(answer, authorization);
    }
  }
}

const bothWords = (secure: ErrnoError, plain: ErrnoError): string =>
  secure.message === plain.message ? plain.message : `${secure.message}; and by plain HTTP: ${plain.message}`;

/** The digest that a registry gives for what it answers; undefined for one that is not known. */
function given(answer: Answer): Expected | undefined {
  const digest = answer.header('docker-content-digest');
  return digest !== undefined && /^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(digest) ? { digest } : undefined;
}

function checkDocument(bytes: Uint8Array, expected: Expected | undefined, what: string): void {
  if (expected === undefined) return;
  const check = new DigestCheck(expected, what);
  check.add(bytes);
  check.finish();
}
