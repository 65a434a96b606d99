/** Images that are mounted without a lock on their files: those of the kernel, and of daemons of earlier versions. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { readStates } from '../mount/state.ts';
import type { ImageInUse } from '../oci/stored/gc.ts';
import { splitAt } from '../overlay/options/split.ts';
import { O_NONBLOCK, openIn } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EBUSY, ErrnoError, must } from '../sys/errno.ts';
import { AT_FDCWD } from '../sys/statx.ts';

/** A mount of the kernel, with what mountinfo says of its superblock. */
interface KernelMount {
  readonly path: ByteString;
  readonly type: ByteString;
  readonly source: ByteString;
  readonly options: ByteString;
}

/**
 * Finds the images that are mounted, in all mount namespaces that can be seen. Their descriptors have to be closed.
 * @param store the path of a repository
 * Throws ErrnoError EBUSY for a mount that has these objects, if it cannot be told which image it is of.
 */
export function imagesInUse(store: ByteString): ImageInUse[] {
  const paths = new Map<ByteString, boolean>(); // whether it has the objects
  const note = (path: ByteString, hasObjects: boolean): void =>
    void paths.set(path, hasObjects || paths.get(path) === true);
  const own = identityOf(`${store}/objects`);
  const isOwn = (path: ByteString): boolean => own !== undefined && identityOf(path) === own;
  const loops = loopFiles();
  for (const path of loops.values()) note(path, false);
  for (const { layers } of readStates()) {
    const isOurs = layers.some(({ path, dataOnly }) => dataOnly && isOwn(path));
    for (const { path, dataOnly } of layers) if (!dataOnly) note(path, isOurs);
  }
  for (const { root, mounts } of namespaces()) {
    const fileOf = ({ source }: KernelMount): ByteString => loops.get(source) ?? `${root}${source}`;
    for (const mount of mounts) if (mount.type === 'erofs' && mount.source.startsWith('/')) note(fileOf(mount), false);
    for (const mount of mounts) {
      const layers = mount.type === 'overlay' ? layersOf(mount.options) : undefined;
      if (!layers?.data.some(path => isOwn(`${root}${path}`))) continue;
      const images = layers.lowers.map(path => mounts.findLast(at => at.type === 'erofs' && at.path === path));
      const files = images.map(image => image && fileOf(image));
      const named = namedFile(store, mount.source);
      if (files.includes(undefined) && named === undefined) throw unknownImage(mount, store);
      for (const file of [...files, named]) if (file !== undefined) note(file, true);
    }
  }
  return [...paths].flatMap(([path, hasObjects]) => opened(path, hasObjects));
}

/** The image of a mount by composefs-rs, whose source is its name after `composefs:`; undefined for others. */
function namedFile(store: ByteString, source: ByteString): ByteString | undefined {
  const [, name] = /^composefs:(.+)$/s.exec(source) ?? [];
  return [`${store}/images/${name}`, `${store}/images/refs/${name}`].find(path => name !== undefined && isFile(path));
}

const unknownImage = ({ path }: KernelMount, store: ByteString): ErrnoError =>
  new ErrnoError(
    EBUSY,
    `${printable(path)}: a mount of the kernel has objects of ${printable(store)}, and its image is not known; unmount it first`,
  );

/** A file that cannot be opened is not of the repository, unless its objects are. */
function opened(path: ByteString, hasObjects: boolean): ImageInUse[] {
  if (!isFile(path)) return [];
  const fd = openIn(AT_FDCWD, path, O_NONBLOCK, 0);
  if (fd < 0 && !hasObjects) return [];
  return [{ fd: must(fd, printable(path)), shown: printable(path), hasObjects }];
}

function isFile(path: ByteString): boolean {
  try {
    return statSync(bufferOf(path)).isFile();
  } catch {
    return false;
  }
}

/** Device and inode of what a path leads to; undefined if it cannot be read. */
function identityOf(path: ByteString): string | undefined {
  try {
    const { dev, ino } = statSync(bufferOf(path), { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** The files behind loop devices, by the paths of the devices. */
function loopFiles(): ReadonlyMap<ByteString, ByteString> {
  const names = listed('/sys/block').filter(name => name.startsWith('loop'));
  const files = names.map(name => [`/dev/${name}`, textOf(`/sys/block/${name}/loop/backing_file`).trimEnd()] as const);
  return new Map(files.filter(([, file]) => file !== ''));
}

/** The mounts of each mount namespace, and a path to its root. */
function namespaces(): { root: ByteString; mounts: KernelMount[] }[] {
  const seen = new Set<string>();
  const found: { root: ByteString; mounts: KernelMount[] }[] = [];
  for (const pid of ['self', ...listed('/proc').filter(name => /^\d+$/.test(name))]) {
    const namespace = linkOf(`/proc/${pid}/ns/mnt`);
    if (namespace === '' || seen.has(namespace)) continue;
    seen.add(namespace);
    const root = pid === 'self' ? '' : `/proc/${pid}/root`;
    found.push({ root, mounts: parse(textOf(`/proc/${pid}/mountinfo`)) });
  }
  return found;
}

function parse(text: string): KernelMount[] {
  return text.split('\n').flatMap(line => {
    const [before = '', after = ''] = line.split(' - ');
    const [type, source, options = ''] = after.split(' ').map(decoded);
    const path = before.split(' ')[4];
    return path === undefined || type === undefined || source === undefined
      ? []
      : [{ path: decoded(path), type, source, options }];
  });
}

const decoded = (field: string): ByteString =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** The lower layers of an overlay, and its data-only ones, as its options show them. */
function layersOf(options: ByteString): { lowers: ByteString[]; data: ByteString[] } {
  const [lowers, data]: [ByteString[], ByteString[]] = [[], []];
  const plain = (path: ByteString): ByteString => path.replace(/\\(.)/gs, '$1');
  for (const option of splitAt(options, ',')) {
    const [, key, value = ''] = /^(lowerdir|lowerdir\+|datadir\+)=(.*)$/s.exec(option) ?? [];
    if (key === 'lowerdir+') lowers.push(plain(value));
    else if (key === 'datadir+') data.push(plain(value));
    else if (key === 'lowerdir') {
      const pieces = splitAt(value, ':');
      const end = pieces.indexOf('');
      lowers.push(...(end < 0 ? pieces : pieces.slice(0, end)).map(plain));
      if (end >= 0)
        data.push(
          ...pieces
            .slice(end)
            .filter(piece => piece !== '')
            .map(plain),
        );
    }
  }
  return { lowers, data };
}

function listed(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function textOf(path: string): ByteString {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
