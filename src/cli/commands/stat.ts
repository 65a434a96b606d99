/** `lowerdata stat`: prints attributes and xattrs of files in a stack. */
import type { Command } from 'commander';
import type { Overlay } from '../../overlay/overlay.ts';
import { findPath } from '../../overlay/path.ts';
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { type Attr, isRegular, isSymlink } from '../../sys/stat.ts';
import { arrow, deviceNumbers, fileType, modeText, octal, secondsText, timeText } from '../../terminal/attributes.ts';
import { documentLines } from '../../terminal/json-lines.ts';
import { printLines } from '../../terminal/output.ts';
import { parse } from '../command.ts';
import { forPaths, newStackCommand } from '../stack.ts';

/** One file as --json prints it. Control characters and bytes that are not UTF-8 appear as \xNN; times are those of secondsText. */
interface Description {
  path: string;
  type: string;
  mode: string;
  uid: number;
  gid: number;
  nlink: number;
  ino: number;
  size: number;
  blocks: number;
  /** The major and minor number of a device, as `8:1`. */
  device?: string;
  mtime: string;
  ctime: string;
  target?: string;
  xattrs: Record<string, string>;
}

export const define = (): Command =>
  newStackCommand('stat')
    .description('Show attributes and extended attributes in a stack, without a mount. Symlinks are not followed.')
    .option('-L, --dereference', 'follow symlinks')
    .option('--json', 'print JSON');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const {
    dereference = false,
    json,
    ...flags
  } = command.opts<{ options: ByteString[]; dereference?: true; json?: true }>();
  const found: Description[] = [];
  const status = await forPaths(command.args, flags, async (overlay, path) => {
    if (json) found.push(describe(overlay, path, dereference));
    else printLines(text(overlay, path, dereference));
  });
  if (json) printLines(documentLines({ files: found }));
  return status;
}

function describe(overlay: Overlay, path: ByteString, follow: boolean): Description {
  const node = findPath(overlay, path, follow);
  const attr = overlay.attr(node);
  const device = deviceNumbers(attr);
  return {
    path: printable(path),
    type: fileType(attr.mode).name,
    mode: octal(attr.mode),
    uid: attr.uid,
    gid: attr.gid,
    nlink: attr.nlink,
    ino: attr.ino,
    size: attr.size,
    blocks: attr.blocks,
    ...(device && { device: device.join(':') }),
    mtime: secondsText(attr.mtime, attr.mtimensec),
    ctime: secondsText(attr.ctime, attr.ctimensec),
    ...(isSymlink(attr.mode) && { target: printable(overlay.readlink(node)) }),
    xattrs: Object.fromEntries(
      overlay.listxattr(node).map(name => [printable(name), printable(byteStringOf(xattr(overlay, node, name)))]),
    ),
  };
}

function text(overlay: Overlay, path: ByteString, follow: boolean): ByteString[] {
  const node = findPath(overlay, path, follow);
  const attr = overlay.attr(node);
  const target = isSymlink(attr.mode) ? overlay.readlink(node) : undefined;
  const device = deviceNumbers(attr);
  return [
    `  File: ${path}${arrow(target)}`,
    `  Size: ${attr.size}  Blocks: ${attr.blocks}  ${typeWords(attr)}`,
    ` Inode: ${attr.ino}  Links: ${attr.nlink}${device ? `  Device type: ${device.join(', ')}` : ''}`,
    `Access: (${octal(attr.mode)}/${modeText(attr.mode)})  Uid: ${attr.uid}  Gid: ${attr.gid}`,
    `Modify: ${timeText(attr.mtime, attr.mtimensec)}`,
    `Change: ${timeText(attr.ctime, attr.ctimensec)}`,
    ...overlay.listxattr(node).map(name => ` Xattr: ${name}=${quoted(xattr(overlay, node, name))}`),
  ];
}

/** The words of stat(1) for a file type; it has words of its own for an empty file. */
function typeWords({ mode, size }: Attr): string {
  return isRegular(mode) && size === 0 ? 'regular empty file' : fileType(mode).words;
}

function xattr(overlay: Overlay, node: Parameters<Overlay['getxattr']>[0], name: ByteString): Uint8Array {
  const value = overlay.getxattr(node, name);
  return typeof value === 'number' ? new Uint8Array() : value; // the layer lost the xattr after it was listed
}

/** A value as getfattr(1) prints it: text in quotes, anything else in hexadecimal. */
function quoted(value: Uint8Array): ByteString {
  const bytes = Buffer.from(value);
  const isText = bytes.every(byte => byte >= 0x20 && byte < 0x7f);
  return isText ? `"${bytes.toString('latin1').replace(/["\\]/g, '\\$&')}"` : `0x${bytes.toString('hex')}`;
}
