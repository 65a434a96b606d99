/** Opening the OCI image that a command is about, with the options for registries. */
import type { Command } from 'commander';
import { openStorageImage } from '../oci/containers-storage/image.ts';
import { type OpenImage, openLocalImage } from '../oci/image.ts';
import type { Platform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import type { RegistryImage } from '../oci/registry/image.ts';
import type { RegistryReference } from '../oci/registry/reference.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { checkChoice, oneOf } from './command.ts';

export interface RegistryFlags {
  readonly authfile?: ByteString;
  readonly certDir?: ByteString;
  readonly tlsVerify?: ByteString;
}

/** OCI images that have their seals beside them, and the help of `--platform` for these. */
export const SEALED_IN_PLACE = /^(?:oci|docker):/;
export const SEALED_PLATFORM =
  'with oci: and docker: which image of several, OS/ARCH[/VARIANT] (default: this machine)';

const AUTHFILE =
  'the only file with credentials for registries, as of podman login (default: where podman and docker have it)';
const TLS_VERIFY =
  'false: take any certificate of a registry, and plain HTTP where it has no HTTPS (default: as registries.conf says)';
const CERT_DIR = 'the only directory with certificates for the registry: *.crt, NAME.cert, NAME.key (default: certs.d)';
const BOOLEANS: readonly string[] = ['true', 'false'];

/** Adds the options for registries to a command. */
export const withRegistryOptions = (command: Command): Command =>
  command
    .option('--authfile <path>', AUTHFILE)
    .option('--cert-dir <path>', CERT_DIR)
    .addOption(oneOf('--tls-verify <bool>', TLS_VERIFY, BOOLEANS));

/** Throws ErrnoError EINVAL for a value that is none. */
export const checkRegistryFlags = ({ tlsVerify }: RegistryFlags): void =>
  checkChoice('--tls-verify', tlsVerify, BOOLEANS);

/** Opens an image wherever it is; its source has to be closed later. Throws ErrnoError with what is missing, damaged or refused. */
export async function openImage(
  reference: Reference,
  platform: Platform | undefined,
  flags: RegistryFlags,
): Promise<OpenImage> {
  if (reference.transport === 'containers-storage') return openStorageImage(reference, platform);
  if (reference.transport !== 'docker') return openLocalImage(reference, platform);
  return openInRegistry(reference, platform, flags);
}

/** Opens an image in a registry, as `openImage` does. @param writes whether something is to be sent to the registry, too */
export async function openInRegistry(
  reference: RegistryReference,
  platform: Platform | undefined,
  { authfile, certDir, tlsVerify }: RegistryFlags,
  writes = false,
): Promise<RegistryImage> {
  const { openRegistryImage } = await import('../oci/registry/image.ts');
  const certDirectory = certDir === undefined ? undefined : bufferOf(certDir).toString('utf8');
  const verifies = tlsVerify === undefined ? undefined : tlsVerify === 'true';
  return openRegistryImage(reference, platform, { authfile, certDirectory, verifies, writes });
}
