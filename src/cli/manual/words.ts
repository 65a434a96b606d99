/** What a manual page has beyond the help of its command. No command loads it: scripts/man.ts makes the pages of it. */

/**
 * A call, with what it prints. test/scripts/manual-examples.ts runs each in a directory of its own, which holds
 *
 *     tree       a directory: `hello` has 78 bytes, `notes/today` 9
 *     image.cfs  an image of `tree`; objects: the store of its data
 *     A, B       directories with a file each, `a` and `b`
 *     layout     an OCI layout with an image, tagged `v1`: `usr/hello` is a file like `tree/hello`
 *     key.pem    a key, and keys/cert.pem, its certificate, with `needs` of openssl
 *     mnt        an empty directory
 */
export interface Example {
  /** What it is for, as a sentence that ends with a colon. */
  readonly what: string;
  /**
   * Commands of sh after `$ `, each followed by the lines that it prints. `...` stands for any text of a line, or as a line for any lines.
   */
  readonly session: readonly string[];
  /** The exit status of the last line; default: 0. */
  readonly status?: number;
  /** What the example needs: to mount, a filesystem with a uuid, a /sbin to write to, or a key. */
  readonly needs?: 'mounts' | 'uuid' | 'sbin' | 'openssl' | 'mounts and openssl';
}

/** Names, such as paths or variables, each with a sentence about it. */
export type Items = readonly (readonly [name: string, what: string])[];

export interface Manual {
  readonly examples: readonly Example[];
  /** The exit statuses, where the help does not list them. */
  readonly status?: string;
  readonly environment?: Items;
  readonly files?: Items;
  /** Other pages, as in `mount(8)`, and documents by their names. */
  readonly see: readonly string[];
}

/** The kernel's document about overlayfs. */
export const OVERLAYFS = 'Documentation/filesystems/overlayfs.rst of Linux';
/** The kernel's document about fs-verity. */
export const FS_VERITY = 'Documentation/filesystems/fsverity.rst of Linux';

/** The environment of commands that speak to registries. */
export const REGISTRY_VARIABLES: Items = [
  ['REGISTRY_AUTH_FILE', 'The only file with credentials for registries, unless `--authfile` names one.'],
  ['XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG', 'Where files with credentials are looked for.'],
  ['CONTAINERS_REGISTRIES_CONF', 'The file `registries.conf`, in place of the usual ones.'],
  ['SSL_CERT_FILE, SSL_CERT_DIR', "Certificates that are trusted, in place of the system's."],
  ['HTTPS_PROXY, HTTP_PROXY, NO_PROXY', 'Proxies to registries, and hosts that need none.'],
];

/** Exit statuses of commands that read a stack or an image. */
export const FAILED = '0, or 1 if the call is wrong or something could not be read.';

/** The text of `tree/hello`. */
export const GREETING = 'Good morning. This line is long enough that an image does not hold it itself.';
