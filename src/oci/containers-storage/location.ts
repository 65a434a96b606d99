/** Where podman and buildah have their storage. Sources: containers-storage.conf(5); containers/storage, types/options.go. */
import { readFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { systemError } from '../../sys/errno.ts';

export interface StorageLocation {
  readonly root: ByteString;
  /** The driver that the configuration names. */
  readonly driver: string | undefined;
}

/** The storage of this user. Throws ErrnoError with the path of a configuration that cannot be read. */
export function ownStorage(): StorageLocation {
  const { CONTAINERS_STORAGE_CONF: named, XDG_CONFIG_HOME: config, XDG_DATA_HOME: data } = process.env;
  const inHome = join(config || join(homedir(), '.config'), 'containers/storage.conf');
  const forAll = ['/etc/containers/storage.conf', '/usr/share/containers/storage.conf'];
  const paths = named ? [named] : isRootless() ? [inHome, ...forAll] : forAll;
  for (const path of paths) {
    const values = valuesIn(path);
    if (values === undefined) continue;
    const isOwn = !isRootless() || path === inHome || path === named;
    const root = isOwn ? values.get('graphroot') : values.get('rootless_storage_path');
    return { root: byteStringFromText(expanded(root) ?? usualRoot(data)), driver: values.get('driver') };
  }
  return { root: byteStringFromText(usualRoot(data)), driver: undefined };
}

/** Whether the storage is that of an ordinary user, who may be root of a user namespace in the shell of `podman unshare`. */
const isRootless = (): boolean => process.geteuid?.() !== 0 || Boolean(process.env._CONTAINERS_ROOTLESS_UID);

const usualRoot = (data: string | undefined): string =>
  isRootless() ? join(data || join(homedir(), '.local/share'), 'containers/storage') : '/var/lib/containers/storage';

/** A path with the variables that a configuration may use. */
function expanded(path: string | undefined): string | undefined {
  if (!path) return undefined;
  const uid = process.env._CONTAINERS_ROOTLESS_UID || String(process.geteuid?.());
  const values: Readonly<Record<string, string>> = { HOME: homedir(), UID: uid, USER: process.env.USER ?? '' };
  return path.replace(
    /\$\{?(HOME|UID|USER)\}?/g,
    (_, name: string) => values[name] || (name === 'USER' ? userInfo().username : ''),
  );
}

/** The strings in the section `[storage]`; undefined without the file. */
function valuesIn(path: string): ReadonlyMap<string, string> | undefined {
  let text: string;
  try {
    text = readFileSync(bufferOf(byteStringFromText(path)), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw systemError(error, printable(byteStringFromText(path)));
  }
  const values = new Map<string, string>();
  let section = '';
  for (const line of text.split('\n')) {
    section = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line)?.[1] ?? section;
    const [, key, , value] = /^\s*(\w+)\s*=\s*(["'])(.*?)\2/.exec(line) ?? [];
    if (section === 'storage' && key !== undefined && value !== undefined) values.set(key, value);
  }
  return values;
}
