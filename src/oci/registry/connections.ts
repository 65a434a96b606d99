/** Requests by HTTP to a registry and the hosts it refers to: through proxies, with redirects, and errors in words. */
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { EACCES, ECONNREFUSED, EIO, EPROTO, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { Passing } from './attempts.ts';
import { certificatesFor, type NamedCertificates } from './certificates.ts';
import { proxyFor } from './proxy.ts';

export interface Answer {
  readonly status: number;
  /** Where it comes from, after redirects. */
  readonly url: URL;
  /** A header as text; undefined if it is missing. */
  header(name: string): string | undefined;
  /** The body, piece by piece. Throws as `ask` does. */
  pieces(): AsyncGenerator<Uint8Array>;
  /** Reads no more of the body. */
  end(): Promise<void>;
}

export interface Question {
  readonly headers?: Readonly<Record<string, string>>;
  /** Is sent to the host of the URL alone, not where that redirects to. */
  readonly authorization?: string | undefined;
  /** A form to send by POST. Redirects are not followed then. */
  readonly form?: URLSearchParams;
  /** By default GET. Of the redirects of others, those are followed that want the same request again. */
  readonly method?: 'POST' | 'PUT';
  readonly body?: Uint8Array;
  readonly signal: AbortSignal;
}

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
/** Those after which a request is made again as it was, with its body. Source: RFC 9110, 15.4. */
const REPEATING: readonly number[] = [307, 308];
const REDIRECTS_MAX = 10;
/** So much of a body is read that nobody wants, so that its connection can be used again. */
const DUMP_BYTES = 1 << 14;
const CONNECTIONS_MAX = 8;

/** The hosts of one pull. */
export class Connections {
  readonly #verifies: boolean;
  readonly #certificates: NamedCertificates | undefined;
  readonly #dispatchers = new Map<string, Dispatcher>();
  /** Hosts that have answered. */
  readonly #known = new Set<string>();

  /**
   * @param verifies false allows unknown certificates, and plain HTTP where a redirect leads to it
   * @param certificates those that an option names
   */
  constructor(verifies: boolean, certificates?: NamedCertificates) {
    this.#verifies = verifies;
    this.#certificates = certificates;
  }

  /**
   * Asks for a URL. The body has to be read, or ended. Throws Passing, or ErrnoError: for a host that cannot be reached, one
   * whose certificate is refused, or redirects that lead nowhere.
   * @param what names the request, for messages
   */
  async ask(url: URL, what: string, { authorization, ...question }: Question): Promise<Answer> {
    let at = url;
    let secret = authorization;
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#askOnce(at, what, { ...question, authorization: secret });
      const location = question.form ? undefined : answer.header('location');
      const followed = question.method === undefined ? REDIRECTS : REPEATING;
      if (!followed.includes(answer.status) || location === undefined) return answer;
      await answer.end();
      if (redirects === REDIRECTS_MAX) throw new ErrnoError(EPROTO, `${what}: more than ${REDIRECTS_MAX} redirects`);
      const next = this.follow(at, location, what);
      if (next.origin !== at.origin) secret = undefined;
      at = next;
    }
  }

  /** Ends all connections. */
  close(): void {
    for (const dispatcher of this.#dispatchers.values()) void dispatcher.destroy();
  }

  async #askOnce(url: URL, what: string, question: Question): Promise<Answer> {
    const { headers, authorization, form, signal, method, body: sent } = question;
    const dispatcher = this.#dispatcherFor(url);
    try {
      const {
        statusCode,
        body,
        headers: answered,
      } = await request(url, {
        ...{ dispatcher, signal, headersTimeout: 0, bodyTimeout: 0, method: method ?? (form ? 'POST' : 'GET') },
        headers: {
          'user-agent': 'lowerdata',
          'accept-encoding': 'identity',
          ...headers,
          ...(authorization !== undefined && { authorization }),
          ...(form && { 'content-type': 'application/x-www-form-urlencoded' }),
        },
        body: sent ?? form?.toString() ?? null,
      });
      this.#known.add(url.origin);
      return {
        ...{ status: statusCode, url },
        header: name => (name in answered ? [answered[name]].flat().join(', ') : undefined),
        pieces: () => piecesOf(body, what, url.host),
        end: () => body.dump({ limit: DUMP_BYTES, signal }).catch(() => {}),
      };
    } catch (error) {
      throw networkError(error, what, url.host, this.#known.has(url.origin));
    }
  }

  /** Where a host leads to. Throws ErrnoError EPROTO if that has no address, or plain HTTP is not allowed. */
  follow(from: URL, location: string, what: string): URL {
    const to = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
    if (to === undefined || !/^https?:$/.test(to.protocol))
      throw new ErrnoError(EPROTO, `${what}: ${from.host} redirects to something other than an address`);
    if (this.#verifies && to.protocol !== 'https:')
      throw new ErrnoError(
        EPROTO,
        `${what}: ${from.host} redirects to plain HTTP on ${to.host}, which --tls-verify=false allows`,
      );
    return to;
  }

  #dispatcherFor(url: URL): Dispatcher {
    const known = this.#dispatchers.get(url.origin);
    if (known) return known;
    const made = this.#newDispatcher(url);
    this.#dispatchers.set(url.origin, made);
    return made;
  }

  #newDispatcher(url: URL): Dispatcher {
    const { host } = url;
    const isSecure = url.protocol === 'https:';
    const hasOwn = isSecure && (this.#verifies || this.#certificates !== undefined);
    const secureContext = hasOwn ? { secureContext: certificatesFor(host, this.#certificates) } : {};
    const connect = { ...secureContext, rejectUnauthorized: this.#verifies };
    const options = { connect, connections: CONNECTIONS_MAX };
    const proxy = proxyFor(url, process.env);
    if (proxy === undefined) return new Agent(options);
    try {
      return new ProxyAgent({ ...options, requestTls: connect, uri: proxy });
    } catch {
      throw new ErrnoError(
        EPROTO,
        `the proxy for ${host} is no address, by ${isSecure ? 'HTTPS_PROXY' : 'HTTP_PROXY'}`,
      );
    }
  }
}

async function* piecesOf(body: AsyncIterable<Uint8Array>, what: string, host: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw networkError(error, what, host, true);
  }
}

/** A whole body. Throws as `Connections.ask` does, and ErrnoError EUCLEAN as soon as it is too long. */
export async function readBytes(answer: Answer, bytesMax: number, what: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of answer.pieces()) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new ErrnoError(EUCLEAN, `${what}: more than ${bytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Why a certificate is refused, by the codes of OpenSSL. */
const CERTIFICATES: readonly (readonly [code: RegExp, why: string])[] = [
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'it is for another host'],
  [/^CERT_HAS_EXPIRED$/, 'it has expired'],
  [/^CERT_NOT_YET_VALID$/, 'it is not valid yet'],
  [/SELF_SIGNED_CERT/, 'it is self-signed, by nobody who is trusted'],
  [/^UNABLE_TO_/, 'nobody who is trusted has signed it'],
  [/^(CERT_|CRL_|INVALID_|PATH_LENGTH_|HOSTNAME_)/, 'it is not valid'],
];
/** Failures before a host has answered at all, after which it will not answer the next time either. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name of the host cannot be resolved now',
  ECONNREFUSED: 'Connection refused',
  EHOSTUNREACH: 'No route to host',
  ENETUNREACH: 'Network is unreachable',
  ETIMEDOUT: 'Connection timed out',
  UND_ERR_CONNECT_TIMEOUT: 'no connection in 10 s',
};
const PASSING: Readonly<Record<string, string>> = {
  ...UNREACHABLE,
  ECONNRESET: 'the connection broke',
  EPIPE: 'the connection broke',
  UND_ERR_SOCKET: 'the connection broke',
};

/** An error of undici in words. @param hasAnswered whether the host has answered an earlier request */
function networkError(error: unknown, what: string, host: string, hasAnswered: boolean): unknown {
  if (error instanceof Passing || error instanceof ErrnoError) return error;
  const { code = '', message, name } = error as NodeJS.ErrnoException;
  const final = (errno: number, why: string): ErrnoError => new ErrnoError(errno, `${what}: ${host}: ${why}`);
  const certificate = CERTIFICATES.find(([codes]) => codes.test(code));
  if (certificate) return final(EACCES, `its certificate is refused: ${certificate[1]} (${code})`);
  if (/^ERR_SSL_(WRONG_VERSION|PACKET_LENGTH|HTTP_REQ)/.test(code))
    return final(EPROTO, 'it does not speak TLS; --tls-verify=false allows plain HTTP');
  if (/^ERR_SSL_|^EPROTO$/.test(code)) return final(EPROTO, `TLS failed (${code})`);
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return final(EPROTO, 'the headers of its answer are too long');
  if (name === 'HTTPParserError') return final(EPROTO, 'its answer is no HTTP');
  const [, refused] = /^Proxy response \((\d+)\)/.exec(message) ?? [];
  if (refused !== undefined) return final(EACCES, `the proxy answers ${refused}`);
  if (Object.hasOwn(UNREACHABLE, code) && !hasAnswered)
    return final(code === 'ECONNREFUSED' ? ECONNREFUSED : EIO, UNREACHABLE[code] as string);
  if (Object.hasOwn(PASSING, code)) return new Passing(`${host}: ${PASSING[code]}`);
  return code === '' ? error : final(EIO, code);
}
