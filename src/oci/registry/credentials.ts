/**
 * The user's names and passwords for registries, where podman and docker keep them. No message has anything of a file but its path.
 * Sources: containers-auth.json(5); the configuration of the docker command; docker-credential-helpers.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, EIO, EPIPE, ErrnoError, errnoText, systemError } from '../../sys/errno.ts';
import { parse } from '../documents.ts';
import type { RegistryReference } from './reference.ts';

export type Credentials = {
  /** The file that has them, or names the program that does. */
  readonly from: string;
} & ({ readonly user: string; readonly password: string } | { readonly identityToken: string });

export interface FoundCredentials {
  readonly credentials: Credentials | undefined;
  /** The files that were looked for. */
  readonly files: readonly string[];
}

const Text = v.nullish(v.string());
const Entry = v.object({ auth: Text, username: Text, password: Text, identitytoken: Text });
type Entry = v.InferOutput<typeof Entry>;
const AuthFile = v.object({
  auths: v.nullish(v.record(v.string(), Entry)),
  credHelpers: v.nullish(v.record(v.string(), v.string())),
  credsStore: Text,
});
const Helped = v.object({ Username: v.string(), Secret: v.string() });

/**
 * Finds the credentials for an image, in the first file that has some for it. Throws ErrnoError with the path of a file that cannot
 * be read, or the name of a program that fails.
 * @param authfile the only file to look in
 */
export function findCredentials(reference: RegistryReference, authfile: ByteString | undefined): FoundCredentials {
  const named = authfile ?? (process.env.REGISTRY_AUTH_FILE && byteStringFromText(process.env.REGISTRY_AUTH_FILE));
  const paths = named ? [named] : usualPaths();
  const files = paths.map(printable);
  for (const path of paths) {
    const credentials = findIn(path, reference, path === named);
    if (credentials) return { credentials, files };
  }
  return { credentials: undefined, files };
}

function usualPaths(): ByteString[] {
  const { XDG_RUNTIME_DIR: runtime, XDG_CONFIG_HOME: config, DOCKER_CONFIG: docker } = process.env;
  const home = homedir();
  return [
    join(runtime || `/run/containers/${process.getuid?.()}`, runtime ? 'containers/auth.json' : 'auth.json'),
    join(config || join(home, '.config'), 'containers/auth.json'),
    join(docker || join(home, '.docker'), 'config.json'),
  ].map(byteStringFromText);
}

function findIn(path: ByteString, reference: RegistryReference, isNamed: boolean): Credentials | undefined {
  const from = printable(path);
  const bytes = readIfThere(path, isNamed);
  if (bytes === undefined || bytes.length === 0) return undefined;
  const { success, output } = v.safeParse(AuthFile, parse(bytes, from));
  if (!success) throw new ErrnoError(EINVAL, `${from}: not as containers-auth.json(5) says`);
  const { auths, credHelpers, credsStore } = output;
  const { registry } = reference;
  const helper = credHelpers && ownValue(credHelpers, registry);
  if (helper) return askHelper(helper, registry, from);
  const entry = auths && entryFor(auths, reference);
  const kept = entry && credentialsOf(entry, from);
  return kept ?? (credsStore ? askHelper(credsStore, keyInStore(registry), from) : undefined);
}

function readIfThere(path: ByteString, isNamed: boolean): Uint8Array | undefined {
  try {
    return readFileSync(bufferOf(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!isNamed && (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES')) return undefined;
    throw systemError(error, printable(path));
  }
}

const ownValue = <T>(values: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(values, key) ? values[key] : undefined;

/** Names under which docker keeps what belongs to its own registry. */
const DOCKER = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];
const keyInStore = (registry: string): string => (registry === DOCKER[0] ? 'https://index.docker.io/v1/' : registry);

/** The entry for the longest part of the name that has one, or for the registry as docker writes it: as an address. */
function entryFor(auths: Readonly<Record<string, Entry>>, { registry, repository }: RegistryReference) {
  for (let name = `${registry}/${repository}`; ; name = name.slice(0, name.lastIndexOf('/'))) {
    const entry = ownValue(auths, name);
    if (entry) return entry;
    if (!name.includes('/')) break;
  }
  const names = DOCKER.includes(registry) ? DOCKER : [registry];
  const hostIn = (key: string): string => key.replace(/^https?:\/\//, '').replace(/\/.*/s, '');
  return Object.entries(auths).find(
    ([key]) => (/^https?:\/\//.test(key) || !key.includes('/')) && names.includes(hostIn(key)),
  )?.[1];
}

/** What an entry has; undefined for an empty one, which docker keeps beside a store of credentials. */
function credentialsOf({ auth, username, password, identitytoken }: Entry, from: string): Credentials | undefined {
  if (identitytoken) return { identityToken: identitytoken, from };
  if (username && password) return { user: username, password, from };
  if (!auth) return undefined;
  const text = Buffer.from(auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 1) throw new ErrnoError(EINVAL, `${from}: an entry whose auth is not the base64 of USER:PASSWORD`);
  return { user: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, ''), from };
}

/** The time for a program, which may ask the user. */
const HELPER_MS = 120_000;
const HELPER_BYTES = 1 << 18;
/** What programs answer when they have nothing. */
const NOTHING = 'credentials not found';
/** The user name that comes with an identity token. */
const TOKEN_USER = '<token>';

/** Asks a program of docker-credential-helpers. */
function askHelper(name: string, registry: string, from: string): Credentials | undefined {
  const program = `docker-credential-${name}`;
  const fail = (errno: number, why: string): never => {
    throw new ErrnoError(errno, `${from}: the program ${program}: ${why}`);
  };
  if (!/^[\w.-]+$/.test(name)) fail(EINVAL, 'not a name of one');
  const { error, status, signal, stdout } = spawnSync(program, ['get'], {
    ...{ input: registry, encoding: 'utf8', timeout: HELPER_MS, maxBuffer: HELPER_BYTES },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const errno = Math.abs((error as NodeJS.ErrnoException | undefined)?.errno ?? 0);
  if (errno !== 0 && errno !== EPIPE) fail(errno, errnoText(errno)); // one that keeps one password need not read
  if (status !== 0 && stdout.includes(NOTHING)) return undefined;
  if (status !== 0) fail(EIO, status === null ? `ended by ${signal}` : `exit status ${status}`);
  const { success, output } = v.safeParse(Helped, parse(Buffer.from(stdout), `${from}: the program ${program}`));
  if (!success) return fail(EIO, 'its answer has no user and no secret');
  const { Username, Secret } = output;
  return Username === TOKEN_USER ? { identityToken: Secret, from } : { user: Username, password: Secret, from };
}
