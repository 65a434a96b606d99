/** Whose certificates are trusted, and which are shown: those of the system, and of containers-certs.d(5). */
import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import { EINVAL, ENOENT, ErrnoError, systemError } from '../../sys/errno.ts';

/** Where systems keep the certificates that programs trust; the first one counts. Source: Go's crypto/x509, root_linux.go. */
const BUNDLES: readonly string[] = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** Directories with one for each host. */
const hostDirectories = (): string[] => [
  join(homedir(), '.config/containers/certs.d'),
  '/etc/containers/certs.d',
  '/etc/docker/certs.d',
];

/** The only directory with certificates of one's own, as an option names it. */
export interface NamedCertificates {
  readonly directory: string;
  /** The registry's host: no other one is shown the certificate of the client. */
  readonly host: string;
}

/**
 * The certificates for connections to a host. SSL_CERT_FILE and SSL_CERT_DIR replace those of the system; without any, those that
 * Node.js has are trusted. Throws ErrnoError with the file or the directory.
 * @param host with its port, unless that is 443
 * @param named is looked at in place of the directories for hosts
 */
export function certificatesFor(host: string, named: NamedCertificates | undefined): SecureContext {
  const authorities = systemAuthorities();
  const own = named ? namedFiles(host, named) : ownFiles(host);
  authorities.push(...own.filter(path => path.endsWith('.crt')).map(readText));
  const certificate = own.find(path => path.endsWith('.cert'));
  const pair = certificate && { cert: readText(certificate), key: readText(certificate.replace(/cert$/, 'key')) };
  try {
    return createSecureContext({ ...(authorities.length > 0 && { ca: authorities }), ...pair });
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!code.startsWith('ERR_OSSL')) throw error;
    throw new ErrnoError(EINVAL, `${certificate}: no certificate that fits its key: ${code}`);
  }
}

function systemAuthorities(): string[] {
  const { SSL_CERT_FILE: file, SSL_CERT_DIR: directories } = process.env;
  const files = file ? [readText(file)] : directories ? [] : firstOf(BUNDLES);
  for (const directory of directories?.split(':') ?? [])
    for (const name of namesIn(directory) ?? []) files.push(readText(join(directory, name)));
  return files.filter(text => text.includes('-----BEGIN CERTIFICATE-----'));
}

function firstOf(paths: readonly string[]): string[] {
  for (const path of paths)
    try {
      return [readFileSync(path, 'latin1')];
    } catch {} // another system
  return [];
}

/** The files for a host, of the first directory that has one for it. */
function ownFiles(host: string): string[] {
  if (!/^[\w[]/.test(host)) return []; // `..` is no name of a directory
  for (const directory of hostDirectories()) {
    const names = namesIn(join(directory, host));
    if (names) return names.sort().map(name => join(directory, host, name));
  }
  return [];
}

function namedFiles(host: string, { directory, host: registry }: NamedCertificates): string[] {
  const names = namesIn(directory);
  if (names === undefined) throw new ErrnoError(ENOENT, `${directory}: no such directory`);
  const files = names.sort().map(name => join(directory, name));
  return host === registry ? files : files.filter(path => path.endsWith('.crt'));
}

/** The names of the files in a directory; undefined if there is none. */
function namesIn(directory: string): string[] | undefined {
  try {
    const entries = readdirSync(directory, { withFileTypes: true });
    return entries.filter(entry => !entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw systemError(error);
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    throw systemError(error);
  }
}
