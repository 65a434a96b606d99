/** The header Authorization for a registry. Sources: distribution, docs/spec/auth/token.md and oauth.md. */
import * as v from 'valibot';
import { EACCES, EPROTO, ErrnoError } from '../../sys/errno.ts';
import { parse } from '../documents.ts';
import { type Attempt, busyAnswer, statusText } from './attempts.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { type Answer, type Connections, readBytes } from './connections.ts';
import type { Credentials, FoundCredentials } from './credentials.ts';

const TOKEN_BYTES_MAX = 1 << 16;
/** What a header can have. */
const Token = v.pipe(v.string(), v.regex(/^[!-~]+$/));
const TokenAnswer = v.object({ token: v.nullish(Token), access_token: v.nullish(Token) });

export class Authorization {
  readonly #connections: Connections;
  readonly #scope: string;
  readonly #find: () => FoundCredentials;
  readonly #verifies: boolean;
  #found: FoundCredentials | undefined;
  #challenges: readonly Challenge[] = [];
  #header: Promise<string | undefined> | undefined;

  /**
   * @param scope what a token is to allow, where the registry does not say that
   * @param find finds credentials; it is called when the registry wants some
   * @param verifies whether names, passwords and tokens are sent by verified TLS alone
   */
  constructor(connections: Connections, scope: string, find: () => FoundCredentials, verifies: boolean) {
    this.#connections = connections;
    this.#scope = scope;
    this.#find = find;
    this.#verifies = verifies;
  }

  /** The header for a request; undefined for none. Throws as `Connections.ask` does, and EACCES if credentials are refused. */
  async header(what: string, attempt: Attempt): Promise<string | undefined> {
    this.#header ??= this.#make(what, attempt);
    const header = this.#header;
    try {
      return await header;
    } catch (error) {
      if (this.#header === header) this.#header = undefined;
      throw error;
    }
  }

  /** Takes the challenge of an answer 401. @param refused the header of the request, which a parallel one may have replaced */
  async renew(answer: Answer, refused: string | undefined): Promise<void> {
    if (this.#header !== undefined && (await this.#header.catch(() => refused)) !== refused) return;
    this.#challenges = parseChallenges(answer.header('www-authenticate') ?? '');
    this.#header = undefined;
  }

  /** An answer 401 as an error: what could be done about it. */
  refusal(what: string): ErrnoError {
    if (!this.#challenges.some(({ scheme }) => scheme === 'bearer' || scheme === 'basic'))
      return new ErrnoError(EACCES, `${what}: the registry wants to know who asks, but neither by Basic nor by Bearer`);
    const { credentials, files } = this.#credentials();
    const why = credentials
      ? `the registry refuses the credentials of ${credentials.from}`
      : `the registry wants credentials, and there are none for it in ${files.join(', ')}`;
    return new ErrnoError(EACCES, `${what}: ${why}`);
  }

  /** By which right requests are made, for messages. */
  get basis(): string {
    if (this.#found === undefined) return 'it has not asked for credentials';
    const { credentials, files } = this.#found;
    return credentials ? `the credentials are those of ${credentials.from}` : `there are none in ${files.join(', ')}`;
  }

  #credentials(): FoundCredentials {
    this.#found ??= this.#find();
    return this.#found;
  }

  async #make(what: string, attempt: Attempt): Promise<string | undefined> {
    const bearer = this.#challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer) return `Bearer ${await this.#token(bearer, what, attempt)}`;
    if (!this.#challenges.some(({ scheme }) => scheme === 'basic')) return undefined;
    const { credentials } = this.#credentials();
    return credentials && basic(credentials);
  }

  async #token({ parameters }: Challenge, what: string, attempt: Attempt): Promise<string> {
    const realm = this.#realm(parameters.get('realm') ?? '', what);
    const { credentials } = this.#credentials();
    const query = {
      ...(parameters.has('service') && { service: parameters.get('service') as string }),
      scope: parameters.get('scope') ?? this.#scope,
    };
    const { signal } = attempt;
    const isOauth = credentials !== undefined && 'identityToken' in credentials;
    if (!isOauth) for (const [key, value] of Object.entries(query)) realm.searchParams.append(key, value);
    const answer = await this.#connections.ask(realm, `${what}: token`, {
      signal,
      ...(credentials && !isOauth && { authorization: basic(credentials) }),
      ...(isOauth && {
        form: new URLSearchParams({
          ...{ grant_type: 'refresh_token', client_id: 'lowerdata', refresh_token: credentials.identityToken },
          ...query,
        }),
      }),
    });
    return this.#tokenIn(answer, what);
  }

  #realm(text: string, what: string): URL {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url?.protocol !== 'https:' && !(url?.protocol === 'http:' && !this.#verifies))
      throw new ErrnoError(EPROTO, `${what}: the registry names no address by HTTPS where tokens are given`);
    return url;
  }

  async #tokenIn(answer: Answer, what: string): Promise<string> {
    const { status, url } = answer;
    const busy = busyAnswer(status, answer.header('retry-after'));
    if (busy || status !== 200) await answer.end();
    if (busy) throw busy;
    const isRefused =
      status === 401 || status === 403 || (status === 400 && this.#credentials().credentials !== undefined);
    if (isRefused) throw this.refusal(what);
    if (status !== 200) throw new ErrnoError(EPROTO, `${what}: ${url.host} gives no token: ${statusText(status)}`);
    const bytes = await readBytes(answer, TOKEN_BYTES_MAX, `${what}: the token of ${url.host}`);
    const { success, output } = v.safeParse(TokenAnswer, parse(bytes, `${what}: the token of ${url.host}`));
    const token = success ? (output.token ?? output.access_token) : undefined;
    if (token) return token;
    throw new ErrnoError(EPROTO, `${what}: ${url.host} gives no token`);
  }
}

function basic(credentials: Credentials): string | undefined {
  if ('identityToken' in credentials) return undefined; // is of use for tokens alone
  return `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
}
