/** The kernel's side of a session: it parses replies as Linux does, and records the nodes that replies announced. */
import * as abi from '../../src/fuse/wire/abi.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import { byteStringOf, getU64 } from '../../src/sys/bytes.ts';
import { ESTALE } from '../../src/sys/errno.ts';
import { isDirectory } from '../../src/sys/stat.ts';
import { demand } from './target.ts';

const { InHeader, OutHeader, EntryOut, Dirent, DirentPlus } = abi;
const SILENT: readonly number[] = [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY];
const ROOT = 1;
const ERRNO_MAX = 511;

/** The size of each reply that has a fixed size. */
const SIZES: ReadonlyMap<number, number> = new Map<number, number>([
  [Opcode.LOOKUP, EntryOut.SIZE],
  [Opcode.GETATTR, abi.AttrOut.SIZE],
  [Opcode.STATX, abi.StatxOut.SIZE],
  [Opcode.OPEN, abi.OpenOut.SIZE],
  [Opcode.OPENDIR, abi.OpenOut.SIZE],
  [Opcode.STATFS, abi.Kstatfs.SIZE],
  [Opcode.LSEEK, abi.LseekOut.SIZE],
  [Opcode.INIT, abi.InitOut.SIZE],
  [Opcode.ACCESS, 0],
  [Opcode.RELEASE, 0],
  [Opcode.RELEASEDIR, 0],
  [Opcode.DESTROY, 0],
]);
/** Operations whose replies may have any size up to the requested one. */
const SIZED: readonly number[] = [Opcode.READ, Opcode.READDIR, Opcode.READDIRPLUS, Opcode.GETXATTR, Opcode.LISTXATTR];
/** Operations on a node, which must fail for nodes that the kernel does not know. */
const ABOUT_NODES: readonly number[] =
  'LOOKUP GETATTR STATX READLINK ACCESS OPEN OPENDIR READDIR READDIRPLUS GETXATTR LISTXATTR'
    .split(' ')
    .map(name => Opcode[name as keyof typeof Opcode]);

interface Asked {
  readonly opcode: number;
  readonly nodeid: number;
  readonly request: DataView;
}

interface Known {
  lookups: number;
  readonly mode: number;
}

export class Kernel {
  private readonly known = new Map<number, Known>();
  private readonly order: number[] = [ROOT];
  /** Requests without a reply yet, keyed by their `unique`. */
  private readonly pending = new Map<string, Asked>();
  private readonly recalls: boolean;

  /** @param recalls whether the filesystem answers for every inode of the image, even if the kernel was never told of it */
  constructor(recalls: boolean) {
    this.recalls = recalls;
  }

  /** A node that the kernel was told of, counted back from the latest. */
  recent(back: number): number {
    return this.order[this.order.length - 1 - (back % this.order.length)] as number;
  }

  /** Whether a request reuses the `unique` of a pending one, which the kernel never does. */
  isTwice(request: Uint8Array): boolean {
    return (
      request.length >= InHeader.SIZE && this.pending.has(byteStringOf(request, InHeader.unique, InHeader.unique + 8))
    );
  }

  /** Records a request that is about to be sent. */
  ask(request: Uint8Array): void {
    if (request.length < InHeader.SIZE) return;
    const view = new DataView(request.buffer, request.byteOffset, request.length);
    const opcode = view.getUint32(InHeader.opcode, true);
    if (SILENT.includes(opcode)) {
      if (view.getUint32(InHeader.len, true) === request.length) this.forget(opcode, view);
      return;
    }
    const asked = { opcode, nodeid: getU64(view, InHeader.nodeid), request: view };
    const unique = byteStringOf(request, InHeader.unique, InHeader.unique + 8);
    this.pending.set(unique, asked);
  }

  /** Demands that every request has been answered. */
  settle(): void {
    demand(this.pending.size === 0, `${this.pending.size} requests have no reply`);
  }

  /** Parses and checks a reply. */
  take(reply: Uint8Array): void {
    const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
    demand(reply.length >= OutHeader.SIZE, `a reply of ${reply.length} bytes`);
    demand(view.getUint32(OutHeader.len, true) === reply.length, 'the header does not tell the length');
    const asked = this.answered(byteStringOf(reply, OutHeader.unique, OutHeader.unique + 8));
    const error = view.getInt32(OutHeader.error, true);
    demand(error <= 0 && error >= -ERRNO_MAX, `error ${error}`);
    const isKnown = asked.nodeid === ROOT || this.known.has(asked.nodeid);
    if (error !== 0) {
      demand(reply.length === OutHeader.SIZE, 'an error has a body');
      demand(!(isKnown && error === -ESTALE), `opcode ${asked.opcode}: nodeid ${asked.nodeid} is known, and ESTALE`);
      return;
    }
    const mayAnswer = isKnown || this.recalls || !ABOUT_NODES.includes(asked.opcode);
    demand(mayAnswer, `opcode ${asked.opcode}: an unknown node has an answer`);
    this.takeBody(asked, new DataView(reply.buffer, reply.byteOffset + OutHeader.SIZE, reply.length - OutHeader.SIZE));
  }

  /** The request that a reply belongs to. */
  private answered(unique: string): Asked {
    const asked = this.pending.get(unique);
    demand(asked !== undefined, 'a reply to nothing');
    this.pending.delete(unique);
    return asked;
  }

  private takeBody({ opcode, nodeid, request }: Asked, body: DataView): void {
    const size = SIZES.get(opcode);
    if (size !== undefined) demand(body.byteLength === size, `opcode ${opcode}: ${body.byteLength} bytes, not ${size}`);
    if (SIZED.includes(opcode)) demand(body.byteLength <= this.room(opcode, request), `opcode ${opcode}: too much`);
    if (opcode === Opcode.LOOKUP) this.learn(body, 0);
    const isList = opcode === Opcode.READDIR || opcode === Opcode.READDIRPLUS;
    if (!isList && opcode !== Opcode.OPENDIR) return;
    const mode = this.known.get(nodeid)?.mode;
    demand(mode === undefined || isDirectory(mode), `opcode ${opcode}: nodeid ${nodeid} is no directory`);
    if (isList) this.takeEntries(body, opcode === Opcode.READDIRPLUS);
  }

  /**
   * The size that the request allows for its reply. READ and the listings have it at 16; xattr requests have it at 0, where 0
   * asks for the value's size.
   */
  private room(opcode: number, request: DataView): number {
    const isXattr = opcode === Opcode.GETXATTR || opcode === Opcode.LISTXATTR;
    const at = InHeader.SIZE + (isXattr ? abi.GetxattrIn.size : abi.ReadIn.size);
    return request.getUint32(at, true) || (isXattr ? abi.GetxattrOut.SIZE : 0);
  }

  private takeEntries(body: DataView, plus: boolean): void {
    for (let at = 0; at < body.byteLength; ) {
      const dirent = at + (plus ? DirentPlus.dirent : 0);
      demand(dirent + Dirent.SIZE < body.byteLength, 'an entry is cut off');
      const length = body.getUint32(dirent + Dirent.namelen, true);
      const end = dirent + Dirent.SIZE + length;
      demand(length >= 1 && length <= abi.NAME_MAX && end <= body.byteLength, `a name of ${length} bytes`);
      const name = byteStringOf(new Uint8Array(body.buffer), body.byteOffset + end - length, body.byteOffset + end);
      demand(!/[/\0]/.test(name), 'a name that is none');
      demand(getU64(body, dirent + Dirent.off) > 0, 'a listing that begins anew');
      if (plus && getU64(body, at + EntryOut.nodeid) !== 0) {
        demand(name !== '.' && name !== '..', 'a dot is counted');
        this.learn(body, at);
      }
      at = (end + 7) & ~7;
    }
  }

  /** Records an entry, which counts as a lookup. Nodeid 0 means that the name is missing. */
  private learn(body: DataView, at: number): void {
    const nodeid = getU64(body, at + EntryOut.nodeid);
    if (nodeid === 0 || nodeid === ROOT) return;
    const mode = body.getUint32(at + EntryOut.attr + abi.FuseAttr.mode, true);
    const known = this.known.get(nodeid) ?? { lookups: 0, mode };
    demand(known.mode === mode, `nodeid ${nodeid} was something else`);
    known.lookups++;
    this.known.set(nodeid, known);
    this.order.push(nodeid);
  }

  private forget(opcode: number, request: DataView): void {
    const end = request.byteLength - 8 * request.getUint16(InHeader.total_extlen, true);
    const body = InHeader.SIZE;
    if (opcode === Opcode.FORGET && end >= body + abi.ForgetIn.SIZE)
      this.takeBack(getU64(request, InHeader.nodeid), getU64(request, body));
    if (opcode !== Opcode.BATCH_FORGET || end < body + abi.BatchForgetIn.SIZE) return;
    let count = request.getUint32(body, true);
    for (
      let at = body + abi.BatchForgetIn.SIZE;
      count-- > 0 && at + abi.ForgetOne.SIZE <= end;
      at += abi.ForgetOne.SIZE
    )
      this.takeBack(getU64(request, at), getU64(request, at + abi.ForgetOne.nlookup));
  }

  private takeBack(nodeid: number, count: number): void {
    const known = this.known.get(nodeid);
    if (!known) return;
    known.lookups -= count;
    if (known.lookups <= 0) this.known.delete(nodeid);
  }
}
