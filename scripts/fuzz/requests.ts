/**
 * Sequences of FUSE requests as bytes, sent to the dispatcher in front of a real filesystem. Each gets a reply of its operation,
 * or an errno. Nodes that the kernel was never told of, or has forgotten, are unknown.
 *
 * ```
 * u8 number of the stack | u16 length, request | u16 length, request | ...
 * ```
 */
import { Backing } from '../../src/driver/backing.ts';
import { Files } from '../../src/driver/files.ts';
import { OverlayFilesystem } from '../../src/driver/filesystem.ts';
import { Dispatcher, REQUEST_BYTES } from '../../src/fuse/dispatch.ts';
import { DEFERRED, type Filesystem, type Settled } from '../../src/fuse/filesystem.ts';
import * as abi from '../../src/fuse/wire/abi.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import type { Overlay } from '../../src/overlay/overlay.ts';
import { Kernel } from './kernel.ts';
import { damageBytes, damageField, joined, type Place } from './mutate.ts';
import { SERVED, served } from './served.ts';
import { demand, type Random, type Target } from './target.ts';

const OPCODES = [...Object.values(Opcode), 0, 7, 54, 4096, 0xffffffff];
/** Operations that the filesystem supports; all others are refused, whatever their contents. */
const USUAL: readonly number[] =
  'LOOKUP FORGET BATCH_FORGET GETATTR STATX READLINK OPEN READ RELEASE LSEEK OPENDIR READDIR'
    .concat(' READDIRPLUS RELEASEDIR GETXATTR LISTXATTR STATFS ACCESS INTERRUPT')
    .split(' ')
    .map(name => Opcode[name as keyof typeof Opcode]);

type Layout = Place['layout'];
/** The structure that follows the header; names are appended to it. */
const BODIES: ReadonlyMap<number, Layout> = new Map<number, Layout>([
  [Opcode.FORGET, abi.ForgetIn],
  [Opcode.GETATTR, abi.GetattrIn],
  [Opcode.STATX, abi.StatxIn],
  [Opcode.OPEN, abi.OpenIn],
  [Opcode.READ, abi.ReadIn],
  [Opcode.RELEASE, abi.ReleaseIn],
  [Opcode.LSEEK, abi.LseekIn],
  [Opcode.OPENDIR, abi.OpenIn],
  [Opcode.READDIR, abi.ReadIn],
  [Opcode.READDIRPLUS, abi.ReadIn],
  [Opcode.RELEASEDIR, abi.ReleaseIn],
  [Opcode.GETXATTR, abi.GetxattrIn],
  [Opcode.LISTXATTR, abi.GetxattrIn],
  [Opcode.ACCESS, abi.AccessIn],
  [Opcode.INTERRUPT, abi.InterruptIn],
  [Opcode.BATCH_FORGET, abi.BatchForgetIn],
  [Opcode.INIT, abi.InitIn],
]);
const NAMED: readonly number[] = [Opcode.LOOKUP, Opcode.GETXATTR];
const XATTRS = [
  'user.shared',
  'trusted.overlay.opaque',
  'trusted.overlay.metacopy',
  'trusted.overlay.',
  'system.posix_acl_access',
];
const REQUESTS_MAX = 60;
const FILL_BYTES = 2048;

function make(random: Random): Uint8Array {
  const stack = random.below(SERVED);
  const { names } = served(stack);
  const requests = Array.from({ length: 1 + random.below(REQUESTS_MAX) }, (_, i) => makeRequest(i, names, random));
  return joined(Uint8Array.of(stack), ...requests.flatMap(bytes => [u16(bytes.length), bytes]));
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);

function makeRequest(number: number, names: readonly string[], random: Random): Uint8Array {
  const opcode = random.oneIn(8) ? random.pick(OPCODES) : random.pick(USUAL);
  const layout = BODIES.get(opcode);
  const named = NAMED.includes(opcode) || (layout === undefined && random.oneIn(2));
  const name = random.pick(
    random.oneIn(12) ? ['', '.', '..', 'a/b', 'n'.repeat(256)] : opcode === Opcode.GETXATTR ? XATTRS : names,
  );
  const tail = opcode === Opcode.BATCH_FORGET ? forgets(random) : Buffer.from(named ? `${name}\0` : '', 'latin1');
  const body = new Uint8Array((layout?.SIZE ?? 0) + tail.length);
  body.set(tail, layout?.SIZE ?? 0);
  if (layout) fillBody(body, layout, random);
  const bytes = joined(header(opcode, number, body.length, random), body);
  const places: Place[] = [{ at: 0, layout: abi.InHeader }];
  if (layout) places.push({ at: abi.InHeader.SIZE, layout });
  if (random.oneIn(8)) damageField(bytes, places, random);
  if (random.oneIn(20)) damageBytes(bytes, random);
  return random.oneIn(20) ? bytes.slice(0, random.below(bytes.length + 1)) : bytes;
}

/** A header, mostly for nodes that were looked up. The kernel numbers its requests in steps of two. */
function header(opcode: number, number: number, bodyBytes: number, random: Random): Uint8Array {
  const bytes = new Uint8Array(abi.InHeader.SIZE);
  const v = new DataView(bytes.buffer);
  v.setUint32(abi.InHeader.len, bytes.length + bodyBytes, true);
  v.setUint32(abi.InHeader.opcode, opcode, true);
  v.setUint32(abi.InHeader.unique, 2 * number + 2, true);
  v.setBigUint64(
    abi.InHeader.nodeid,
    random.oneIn(20) ? BigInt(random.below(99)) : RECENT + BigInt(random.below(12)),
    true,
  );
  return bytes;
}

/** A stored nodeid of RECENT + n stands for the node that the kernel was told of n nodes before the latest. */
const RECENT = 0xfffffffffffff000n;

function fillBody(body: Uint8Array, layout: Layout, random: Random): void {
  const v = new DataView(body.buffer);
  for (const [field, at] of Object.entries(layout)) {
    if (field === 'fh') v.setUint32(at, random.below(6), true);
    if (field === 'size') v.setUint32(at, random.pick([0, 1, 100, 170, 300, 4096, 70_000, 2 ** 20]), true);
    if (field === 'offset') v.setUint32(at, random.oneIn(2) ? 0 : random.pick([1, 2, 3, 5, 4096]), true);
    if (field === 'whence') v.setUint32(at, random.pick([3, 4, 0, 1]), true);
    if (field === 'nlookup' || field === 'count') v.setUint32(at, random.below(4), true);
    if (field === 'unique') v.setUint32(at, 2 * random.below(REQUESTS_MAX), true);
    if (field === 'major') v.setUint32(at, random.pick([7, 7, 6, 8]), true);
    if (field === 'minor') v.setUint32(at, random.pick([45, 23, 36, 22, 99]), true);
    if (field === 'flags') v.setUint32(at, random.below(2 ** 32), true);
  }
}

function forgets(random: Random): Uint8Array {
  const bytes = new Uint8Array(random.below(4) * abi.ForgetOne.SIZE);
  const v = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += abi.ForgetOne.SIZE) {
    v.setBigUint64(at + abi.ForgetOne.nodeid, RECENT + BigInt(random.below(12)), true);
    v.setUint32(at + abi.ForgetOne.nlookup, random.below(3), true);
  }
  return bytes;
}

/** A served stack, and a kernel that records what it was told. */
class Session {
  readonly kernel: Kernel;
  private readonly dispatcher: Dispatcher;
  private readonly buffer: Uint8Array;
  private readonly fill: 'noise' | 'nodeids';
  private isOver = false;

  /** @param fill the bytes after a request in the buffer: meaningless ones, or nodeids that the kernel knows */
  constructor(overlay: Overlay, fill: 'noise' | 'nodeids') {
    const files = new Files(overlay, new Backing(-1, false, () => {}), { idleMax: 4 });
    const forever = { entrySeconds: Number.POSITIVE_INFINITY, attrSeconds: 1, negativeSeconds: 1, asksToOpen: true };
    const filesystem = new OverlayFilesystem(overlay, files, forever, { acl: true, trusted: true });
    const log = (line: string): void => demand(!/: EIO: \w*(Error|thrown): /.test(line), line);
    this.dispatcher = new Dispatcher(
      deferring(filesystem, () => this.isOver),
      { wanted: { passthroughDepth: 0, posixAcl: true }, log },
    );
    this.kernel = new Kernel(overlay.recalls);
    this.buffer = new Uint8Array(REQUEST_BYTES);
    this.fill = fill;
  }

  /** Sends a request and checks the replies. @returns all replies, concatenated */
  send(request: Uint8Array): Uint8Array {
    const { dispatcher, kernel, buffer } = this;
    if (kernel.isTwice(request)) return new Uint8Array(0);
    buffer.set(request);
    this.fillAfter(request.length);
    this.aim(request.length);
    const sent = buffer.slice(0, request.length);
    kernel.ask(sent);
    const length = dispatcher.handle(buffer, request.length);
    const reply = dispatcher.reply.slice(0, length);
    if (length > 0) kernel.take(reply);
    return joined(reply, this.takeLate());
  }

  /** Collects the deferred replies, and demands that no request is left unanswered. */
  end(): void {
    this.isOver = true;
    this.takeLate();
    this.kernel.settle();
  }

  private takeLate(): Uint8Array {
    const { dispatcher, kernel } = this;
    const replies: Uint8Array[] = [];
    for (let late = dispatcher.late(); late > 0; late = dispatcher.late()) {
      const reply = dispatcher.deferredReply.slice(0, late);
      kernel.take(reply);
      replies.push(reply);
    }
    return joined(...replies);
  }

  /** Fills the buffer after a request, as far as a request with a wrong size might reach. */
  private fillAfter(length: number): void {
    const end = Math.min(length + FILL_BYTES, this.buffer.length - 8);
    const v = new DataView(this.buffer.buffer);
    const value = this.fill === 'noise' ? 0x6161616161616161n : BigInt(this.kernel.recent(0));
    for (let at = length; at < end; at += 8) v.setBigUint64(at, value, true);
  }

  /** Replaces the RECENT nodeids of the request in the buffer by actual ones. */
  private aim(length: number): void {
    const v = new DataView(this.buffer.buffer);
    const places: number[] = [abi.InHeader.nodeid];
    for (
      let at = abi.InHeader.SIZE + abi.BatchForgetIn.SIZE;
      at + abi.ForgetOne.SIZE <= length;
      at += abi.ForgetOne.SIZE
    )
      if (v.getUint32(abi.InHeader.opcode, true) === Opcode.BATCH_FORGET) places.push(at + abi.ForgetOne.nodeid);
    for (const at of places) {
      if (at + 8 > length) continue;
      const back = v.getBigUint64(at, true) - RECENT;
      if (back >= 0n && back < 0xf00n) v.setBigUint64(at, BigInt(this.kernel.recent(Number(back))), true);
    }
  }
}

/** The most opens that are deferred at a time. */
const WAITING_MAX = 3;

/**
 * The same filesystem, which defers some opens: those whose `unique` has a first byte divisible by 3.
 * @param isOver whether no more requests will come
 */
function deferring(filesystem: OverlayFilesystem, isOver: () => boolean): Filesystem {
  const waiting: Settled[] = [];
  const open = (...[nodeid, flags, out, unique, kills]: Parameters<Filesystem['open']>): number => {
    if (unique.charCodeAt(0) % 3 !== 0) return filesystem.open(nodeid, flags, out, unique, kills);
    waiting.push({ unique, answer: later => filesystem.open(nodeid, flags, later, unique, kills) });
    return DEFERRED;
  };
  const settled = (): Settled | undefined => (isOver() || waiting.length > WAITING_MAX ? waiting.shift() : undefined);
  return Object.assign(Object.create(filesystem) as OverlayFilesystem, { open, settled });
}

function check(input: Uint8Array): void {
  const stack = served((input[0] ?? 0) % SERVED);
  const sessions = (['noise', 'nodeids'] as const).map(fill => new Session(stack.overlay, fill));
  for (let at = 1; at + 2 <= input.length; ) {
    const length = Math.min((input[at] as number) | ((input[at + 1] as number) << 8), REQUEST_BYTES);
    const request = input.subarray(at + 2, at + 2 + length);
    const [one, other] = sessions.map(session => session.send(request)) as [Uint8Array, Uint8Array];
    demand(Buffer.compare(one, other) === 0, 'a reply depends on what comes after the request');
    at += 2 + length;
  }
  for (const session of sessions) session.end();
}

export const requests: Target = { make, check };
