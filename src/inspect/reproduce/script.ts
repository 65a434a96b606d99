/** Writes a drawn stack as a POSIX shell script. Nothing in it comes from a layer as text: names are generated, values are hexadecimal. */
import { hasDigest } from '../../overlay/metacopy.ts';
import type { RuleOptions } from '../../overlay/options/rules.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { isDirectory, isRegular, S_IFBLK, S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT } from '../../sys/stat.ts';
import type { Draft } from './shrink.ts';
import { isFollowed, type LayerSketch, type Sketch } from './sketch.ts';
import { ORIGIN_CONTENT } from './visits.ts';

/** What the script is to say beside the stack. */
export interface Words {
  /** The lines of the comment, without `# `: printable ASCII, as generated names give it. */
  readonly comment: readonly string[];
  /** Whether lowerdata is asked as well, because Linux has no such lookup. */
  readonly isProposed: boolean;
}

/** The text of the script. */
export function scriptOf(draft: Draft, { comment, isProposed }: Words): string {
  const { layers, names } = draft;
  const making = layers.flatMap(makeLayer);
  const needsXattr = making.some(line => line.startsWith('xattr '));
  const origin = layers.some(({ root }) => hasFollowed(root));
  return `#!/bin/sh
${comment.map(line => `# ${line}`.trimEnd()).join('\n')}
set -eu
export LC_ALL=C
path=${['.', ...names].join('/')}
layers=${lowerdir(layers)}
[ "$(id -u)" = 0 ] || { echo 'this needs root, for mount and trusted xattrs' >&2; exit 1; }
${PREPARE}${needsXattr ? XATTR : ''}${origin ? ORIGIN : ''}${SHOW}
${making.join('\n')}

echo "# Linux $(uname -r)"
if mount -t overlay overlay -o "lowerdir=$layers${kernelOptions(draft)}" mnt; then
  mounted=yes
  show "mnt/$path"
  umount mnt
  mounted=
else
  echo 'mount: refused'
fi
${isProposed ? withLowerdata(draft) : ''}`;
}

const withLowerdata = (draft: Draft): string => `
if command -v lowerdata >/dev/null; then
  echo '# lowerdata'
  lowerdata mount -o "lowerdir=$layers${kernelOptions(draft)}${ourOptions(draft.rules.options)}" overlay mnt
  mounted=yes
  show "mnt/$path"
  umount mnt
  mounted=
fi
`;

const PREPARE = `work=$(mktemp -d "\${TMPDIR:-/tmp}/overlay.XXXXXX")
mounted=
clean() {
  cd "$work"
  if [ -n "$mounted" ]; then umount mnt; fi
  cd /
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
cd "$work"
mkdir mnt
`;

const XATTR = `
xattr() { # NAME HEX FILE
  if command -v setfattr >/dev/null; then
    setfattr -h -n "$1" -v "0x$2" "$3"
  else
    python3 -c 'import os, sys
name, value, path = sys.argv[1:]
os.setxattr(path, name, bytes.fromhex(value), follow_symlinks=False)' "$1" "$2" "$3"
  fi
}
`;

/** The value that overlayfs gives to an origin: struct ovl_fb with a handle of name_to_handle_at(2). */
const ORIGIN = `
printf '${ORIGIN_CONTENT.replace('\n', '\\n')}' >origin
origin() { # NAME FILE
  python3 -c 'import ctypes, fcntl, os, struct, sys
name, path = sys.argv[1:]
handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
struct.pack_into("I", handle, 0, 128)
if ctypes.CDLL(None).name_to_handle_at(-100, b"origin", handle, ctypes.byref(mount), 0): sys.exit("no file handles here")
size, kind = struct.unpack_from("Ii", handle)
uuid = bytearray(17)
try: fcntl.ioctl(os.open(".", os.O_RDONLY), 0x80111500, uuid)
except OSError: pass
head = bytes([0, 0xfb, 21 + size, 0, kind & 255]) + bytes(uuid[1:])
os.setxattr(path, name, head + handle.raw[8:8 + size], follow_symlinks=False)' "$1" "$2"
}
`;

const SHOW = `
show() {
  stat -c 'stat: %F' "$1" 2>&1 || return 0
  if [ -L "$1" ]; then :
  elif [ -d "$1" ]; then ls "$1" 2>&1 | sed 's/^/ls: /'
  elif [ -f "$1" ]; then cat "$1" 2>&1 | sed 's/^cat: //; s/^/cat: /'
  fi
  if command -v getfattr >/dev/null; then getfattr -h -d -m - "$1" 2>&1 | sed '/^#/d; /^$/d; s/^/getfattr: /'; fi
}
`;

/** Kernels before 6.6 refuse the option verity, so it stands only where it has a meaning. */
function kernelOptions({ rules, layers }: Draft): string {
  const { userxattr, metacopy, redirectDir, verity } = rules.options;
  const isChecked = verity === 'require' || (verity === 'on' && layers.some(({ root }) => hasDigests(root)));
  const checked = isChecked ? `,verity=${verity}` : '';
  if (userxattr) return `,userxattr${checked}`;
  return `,metacopy=${metacopy ? 'on' : 'off'},redirect_dir=${redirectDir}${checked}`;
}

const ourOptions = ({ redirects, semantics, followOrigin }: RuleOptions): string =>
  `,redirects=${redirects},semantics=${semantics},follow_origin=${followOrigin ? 'verity' : 'off'}`;

const lowerdir = (layers: readonly LayerSketch[]): string =>
  layers.map(({ path, dataOnly }, i) => `${i === 0 ? '' : dataOnly ? '::' : ':'}${path}`).join('');

const hasDigests = ({ xattrs, entries }: Sketch): boolean =>
  [...xattrs].some(([name, value]) => name.endsWith('.metacopy') && hasDigest(value)) ||
  [...entries.values()].some(hasDigests);

const hasFollowed = ({ xattrs, entries }: Sketch): boolean =>
  [...xattrs.values()].some(isFollowed) || [...entries.values()].some(hasFollowed);

function makeLayer({ path, root }: LayerSketch): string[] {
  const lines = [`mkdir ${path}`];
  const visit = (at: string, sketch: Sketch): void => {
    for (const [name, entry] of sketch.entries) {
      const below = `${at}/${name}`;
      lines.push(makeObject(below, entry, path), ...xattrLines(below, entry));
      visit(below, entry);
    }
  };
  visit(path, root);
  return lines;
}

/** The command that makes an object; a file that is not empty has the name of its layer. */
function makeObject(path: string, { mode, rdev, sizeBytes }: Sketch, layer: string): string {
  if (isDirectory(mode)) return `mkdir ${path}`;
  if (isRegular(mode)) return sizeBytes === 0 ? `: >${path}` : `echo ${layer} >${path}`;
  const type = mode & S_IFMT;
  if (type === S_IFLNK) return `ln -s x ${path}`;
  if (type === S_IFCHR) return `mknod ${path} c ${rdev === 0 ? '0 0' : '1 3'}`;
  if (type === S_IFBLK) return `mknod ${path} b 7 0`;
  if (type === S_IFIFO) return `mkfifo ${path}`;
  return `python3 -c 'import os, sys; os.mknod(sys.argv[1], 0o140644)' ${path}`;
}

const xattrLines = (path: string, { xattrs }: Sketch): string[] =>
  [...xattrs].map(([name, value]) => (isFollowed(value) ? `origin ${name} ${path}` : xattrLine(name, value, path)));

const xattrLine = (name: ByteString, value: Uint8Array, path: string): string =>
  `xattr ${name} ${value.length === 0 ? "''" : Buffer.from(value).toString('hex')} ${path}`;
