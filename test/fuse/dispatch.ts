/** Proves src/fuse/dispatch.ts: no request, however broken, makes it throw, read past the end, or reply nonsense. */
import t from 'tap';
import { BUSY_BYTES, Dispatcher } from '../../src/fuse/dispatch.ts';
import { DEFERRED, type Nodeid, type Settled, type Unique } from '../../src/fuse/filesystem.ts';
import { operations } from '../../src/fuse/ops.ts';
import type { Out } from '../../src/fuse/reply.ts';
import { EntryOut, InHeader, OpenIn, OutHeader, ReadIn } from '../../src/fuse/wire/abi.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import { EINVAL, EIO, ENOSYS, EPROTO, EROFS, ErrnoError, ESTALE, EUCLEAN } from '../../src/sys/errno.ts';
import { noting, TinyFilesystem } from '../fixtures/mounts/tiny-fs.ts';
import { seeded } from '../fixtures/mounts/wire.ts';

const calls: string[] = [];
const lines: string[] = [];
const filesystem = new TinyFilesystem();
const wanted = { passthroughDepth: 0, posixAcl: false } as const;
const dispatcher = new Dispatcher(noting(filesystem, calls), { wanted, log: line => lines.push(line) });

interface Reply {
  length: number;
  error: number;
  unique: string;
  body: string;
}

/** The reply of a dispatcher, after the checks that hold for every reply; undefined for none. */
function handle(bytes: Uint8Array, length = bytes.length): Reply | undefined {
  const replied = dispatcher.handle(bytes, length);
  if (replied === 0) return undefined;
  const reply = Buffer.from(dispatcher.reply.subarray(0, replied));
  const error = reply.readInt32LE(OutHeader.error);
  const unique = reply.toString('hex', 8, 16);
  if (reply.readUInt32LE(OutHeader.len) !== replied) t.fail('the header tells the length');
  if (unique !== Buffer.from(bytes.subarray(8, 16)).toString('hex')) t.fail('the reply is to this request');
  if (error > 0 || error <= -512) t.fail('the error is one that the kernel takes');
  if (error !== 0 && replied !== OutHeader.SIZE) t.fail('an error has no body');
  return { length: replied, error: -error, unique, body: reply.toString('hex', OutHeader.SIZE) };
}

function request(opcode: number, nodeid: number, body: Uint8Array, extensions = 0): Uint8Array {
  const header = Buffer.alloc(InHeader.SIZE);
  header.writeUInt32LE(InHeader.SIZE + body.length, InHeader.len);
  header.writeUInt32LE(opcode, InHeader.opcode);
  header.write('f1f2f3f4f5f6f7f8', InHeader.unique, 'hex');
  header.writeUInt32LE(nodeid, InHeader.nodeid);
  header.writeUInt16LE(extensions, InHeader.total_extlen);
  return new Uint8Array(Buffer.concat([header, body]));
}
const NAME = Buffer.from('hello\0');

t.test('a dispatcher tells once that it has been busy', async t => {
  let told = 0;
  const busy = new Dispatcher(filesystem, { wanted, log: () => {}, onBusy: () => told++ });
  const lookup = request(Opcode.LOOKUP, 1, NAME);
  const read = request(Opcode.READ, 3, new Uint8Array(ReadIn.SIZE));
  const replyBytes = OutHeader.SIZE + EntryOut.SIZE;
  const enough = Math.ceil(BUSY_BYTES / replyBytes);
  for (let i = 0; i < 3 * enough; i++) busy.handle(read, read.length);
  for (let i = 1; i < enough; i++) busy.handle(lookup, lookup.length);
  t.equal(told, 0, `not after ${(enough - 1) * replyBytes} bytes, nor by reads`);
  busy.handle(lookup, lookup.length);
  t.equal(told, 1, `after ${enough * replyBytes} bytes`);
  for (let i = 0; i < 2 * enough; i++) busy.handle(lookup, lookup.length);
  t.equal(told, 1, 'and not again');
});

t.test('malformed headers', t => {
  const lookup = request(Opcode.LOOKUP, 1, NAME);
  for (const [rule, bytes, length, error, line] of [
    ['a request ends where its header says', lookup, lookup.length, 0, undefined],
    ['fewer bytes', lookup, lookup.length - 1, EPROTO, 'LOOKUP nodeid 1: EPROTO: 45 bytes came, the header says 46'],
    [
      'more bytes',
      new Uint8Array([...lookup, 0]),
      47,
      EPROTO,
      'LOOKUP nodeid 1: EPROTO: 47 bytes came, the header says 46',
    ],
    [
      'extensions are no part of the body',
      request(Opcode.LOOKUP, 1, Buffer.from('hello\0abcdefgh'), 1),
      54,
      0,
      undefined,
    ],
    [
      'extensions that leave no body',
      request(Opcode.LOOKUP, 1, NAME, 1),
      46,
      EINVAL,
      'LOOKUP nodeid 1: EINVAL: a body of -2 bytes, not 2',
    ],
    [
      'unknown, with extensions past its start',
      request(99, 1, NAME, 9),
      46,
      EINVAL,
      'opcode 99 nodeid 1: EINVAL: a body of -66 bytes, not 0',
    ],
    ['unknown', request(99, 1, NAME), 46, ENOSYS, undefined],
  ] as const) {
    lines.length = 0;
    t.equal(handle(bytes, length)?.error, error, rule);
    t.strictSame(lines, line === undefined ? [] : [line], `${rule}: logged`);
  }
  for (let length = 0; length < InHeader.SIZE; length++) {
    lines.length = 0;
    t.equal(handle(lookup, length), undefined, `a header of ${length} bytes has no reply`);
    t.strictSame(lines, [`a request of ${length} bytes has no header`], 'and is logged');
  }
  t.equal(handle(lookup, lookup.length + 1), undefined, 'a length past the buffer has no reply');
  t.end();
});

t.test('exceptions', t => {
  const open = (nodeid: number): Uint8Array => request(Opcode.OPEN, nodeid, Buffer.alloc(8));
  const xattr = Buffer.concat([Buffer.alloc(8), Buffer.from('user.throws\0')]);
  for (const [rule, bytes, error, logged] of [
    ['an ErrnoError', open(7), EUCLEAN, ['OPEN nodeid 7: EUCLEAN: nid 36: no data']],
    ['what the kernel is to look up again', open(99), ESTALE, []],
    ['a fault of ours', request(Opcode.GETXATTR, 3, xattr), EIO, ['GETXATTR nodeid 3: EIO: RangeError: out of range']],
  ] as const) {
    lines.length = 0;
    t.equal(handle(bytes)?.error, error, rule);
    t.strictSame(lines, logged, `${rule}: what is logged`);
  }
  for (const [rule, result] of [
    ['a result beyond errnos', -512],
    ['a result that is no number', Number.NaN],
    ['a body longer than the buffer', 2 ** 30],
  ] as const) {
    filesystem.access = () => result;
    t.equal(handle(request(Opcode.ACCESS, 1, Buffer.alloc(8)))?.error, EIO, `${rule} is EIO`);
  }
  t.end();
});

t.test('fail and end', t => {
  handle(request(Opcode.GETATTR, 3, Buffer.alloc(16)));
  t.equal(dispatcher.fail(), OutHeader.SIZE, 'a reply that was refused becomes a header');
  const reply = Buffer.from(dispatcher.reply.subarray(0, OutHeader.SIZE)).toString('hex');
  t.equal(reply, '10000000fbffffff' + 'f1f2f3f4f5f6f7f8', 'that says EIO');
  dispatcher.end();
  t.equal(filesystem.destroyed, 1, 'the filesystem learns of the end');
  t.end();
});

t.test('every length of every request', t => {
  const silent = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY]);
  for (const [name, opcode] of Object.entries(Opcode)) {
    const bodyBytesMin = opcode === Opcode.INIT ? 16 : (operations.get(opcode)?.bodyBytesMin ?? 0);
    let failed = '';
    for (let bodyBytes = 0; bodyBytes <= 128; bodyBytes++) {
      const reply = handle(request(opcode, 3, Buffer.alloc(bodyBytes, 0x61)));
      if (silent.has(opcode) !== (reply === undefined)) failed += ` ${bodyBytes}: reply or not`;
      if (reply && bodyBytes < bodyBytesMin && reply.error !== EINVAL) failed += ` ${bodyBytes}: error ${reply.error}`;
    }
    t.equal(failed, '', name);
  }
  t.end();
});

t.test('noise', t => {
  const random = seeded(1);
  const opcodes = [...Object.values(Opcode), 0, 7, 54, 4096];
  const buffer = new Uint8Array(8192);
  let replies = 0;
  let wellFormed = 0;
  for (let i = 0; i < 20_000; i++) {
    const length = InHeader.SIZE + random(random(4) === 0 ? 4000 : 70);
    for (let at = 0; at < length; at++) buffer[at] = random(3) === 0 ? 0 : random(256);
    const view = new DataView(buffer.buffer);
    if (random(8) !== 0) view.setUint32(InHeader.len, length, true);
    view.setUint32(InHeader.opcode, opcodes[random(opcodes.length)] as number, true);
    view.setUint32(InHeader.nodeid, 1 + random(9), true);
    view.setUint32(InHeader.nodeid + 4, random(50) === 0 ? 0xffffffff : 0, true);
    if (random(8) !== 0) view.setUint16(InHeader.total_extlen, 0, true);

    calls.length = 0;
    buffer.fill(0, length);
    const once = JSON.stringify([handle(buffer, length), calls]);
    calls.length = 0;
    buffer.fill(0xff, length);
    const reply = handle(buffer, length);
    if (JSON.stringify([reply, calls]) !== once) t.fail(`request ${i} was read past its end`);
    if (reply) replies++;
    if (reply && reply.error !== EINVAL && reply.error !== EPROTO && reply.error !== EROFS) wellFormed++;
  }
  t.ok(replies > 15_000, 'most requests are replied to');
  t.ok(wellFormed > 5_000, 'many reach the filesystem');
  t.end();
});

/** Leaves every open for later, and answers when it is told to. */
class PatientFilesystem extends TinyFilesystem {
  readonly left: Unique[] = [];
  readonly interrupted: Unique[] = [];
  ready: Settled[] = [];

  override open(_nodeid: Nodeid, _flags: number, _out: Out, unique?: Unique): number {
    this.left.push(unique as Unique);
    return DEFERRED;
  }

  settled(): Settled | undefined {
    return this.ready.shift();
  }

  interrupt(unique: Unique): void {
    this.interrupted.push(unique);
  }
}

t.test('answers that come later', t => {
  const patient = new PatientFilesystem();
  const later = new Dispatcher(patient, { wanted, log: line => lines.push(line) });
  const open = (nodeid: number, unique: string): Uint8Array => {
    const bytes = request(Opcode.OPEN, nodeid, new Uint8Array(OpenIn.SIZE));
    bytes.set(Buffer.from(unique, 'hex'), InHeader.unique);
    return bytes;
  };
  const [first, second, third] = ['f100000000000001', 'f200000000000002', 'f300000000000003'] as const;
  lines.length = 0;
  for (const [i, unique] of [first, second, third].entries()) {
    const bytes = open(3 + i, unique);
    t.equal(later.handle(bytes, bytes.length), 0, 'nothing is sent now');
  }
  t.equal(later.late(), 0, 'nor before there is an answer');
  t.strictSame(
    patient.left.map(unique => Buffer.from(unique, 'latin1').toString('hex')),
    [first, second, third],
    'the filesystem knows the number of each request',
  );

  const stop = request(Opcode.INTERRUPT, 0, Buffer.from(second, 'hex'));
  t.equal(later.handle(stop, stop.length), 0, 'an interrupt has no reply');
  t.strictSame(patient.interrupted, [patient.left[1]], 'but is passed on');

  const [one, two, three] = patient.left as [Unique, Unique, Unique];
  patient.ready = [
    {
      unique: three,
      answer: out => {
        out.view.setUint32(0, 0x12345678, true);
        return 4;
      },
    },
    { unique: one, answer: () => -ESTALE },
    {
      unique: two,
      answer: () => {
        throw new ErrnoError(EUCLEAN, 'what it is about');
      },
    },
  ];
  const sent = (): string => Buffer.from(later.deferredReply.subarray(0, later.late())).toString('hex');
  t.equal(sent(), `14000000${'00000000'}${third}78563412`, 'a body, in any order');
  t.equal(sent(), `10000000${'8cffffff'}${first}`, 'an errno');
  t.equal(sent(), `10000000${'8bffffff'}${second}`, 'what throws is answered with its errno');
  t.strictSame(lines, ['OPEN nodeid 4: EUCLEAN: what it is about'], 'and logged as any other');
  t.equal(later.late(), 0, 'each is answered once');
  t.end();
});
