/** Proves src/fuse/request-counts.ts, and that the dispatcher counts every request once. */
import t from 'tap';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import { DEFERRED, type Nodeid, type Settled, type Unique } from '../../src/fuse/filesystem.ts';
import type { Out } from '../../src/fuse/reply.ts';
import { RequestCounts, type RequestNumbers } from '../../src/fuse/request-counts.ts';
import { GetxattrIn, InHeader, ReadIn } from '../../src/fuse/wire/abi.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import { EIO, ENODATA } from '../../src/sys/errno.ts';
import { TinyFilesystem } from '../fixtures/mounts/tiny-fs.ts';

const totals = ({ operations }: RequestNumbers): Record<string, number> =>
  Object.fromEntries(operations.map(({ operation, count }) => [operation, count]));

t.test('times', async t => {
  for (const [rule, nanoseconds, bucket] of [
    ['no time at all', 0, 0],
    ['less than a nanosecond', 0.4, 0],
    ['one', 1, 0],
    ['a bound belongs to what is below it', 1024, 10],
    ['and a little more does not', 1024.5, 11],
    ['a millisecond', 1e6, 20],
    ['the last bound', 2 ** 32, 32],
    ['what is past it', 2 ** 32 + 1, 33],
    ['an hour', 3.6e12, 33],
  ] as const) {
    const counts = new RequestCounts();
    counts.answered(Opcode.LOOKUP, 0, nanoseconds / 1e6);
    const [operation] = RequestCounts.read(counts.counters).operations;
    t.equal(
      operation?.buckets.findIndex(count => count > 0),
      bucket,
      rule,
    );
    t.equal(operation?.nanoseconds, Math.round(nanoseconds), rule);
  }
});

t.test('results', async t => {
  const counts = new RequestCounts();
  t.strictSame(RequestCounts.read(counts.counters), { operations: [], readBytes: 0 }, 'nothing yet');
  for (const [opcode, result] of [
    [Opcode.READ, 4096],
    [Opcode.READ, 10],
    [Opcode.READ, -EIO],
    [Opcode.READDIR, 500],
    [Opcode.GETXATTR, -ENODATA],
    [Opcode.GETXATTR, -ENODATA],
    [Opcode.GETXATTR, -511],
    [Opcode.GETXATTR, -512],
    [4096, -1],
    [99, 0],
  ] as const)
    counts.answered(opcode, result, 0.001);
  const numbers = RequestCounts.read(counts.counters);
  t.equal(numbers.readBytes, 4106, 'bytes are those of READ');
  t.strictSame(totals(numbers), { OTHER: 2, READ: 3, GETXATTR: 4, READDIR: 1 });
  t.strictSame(
    numbers.operations.map(({ errors }) => errors),
    [{ EPERM: 1 }, { EIO: 1 }, { ENODATA: 2, EIO: 1, 'errno 511': 1 }, {}],
    'errors by name; what is no error that the kernel takes is EIO, as it is answered',
  );
});

/** A filesystem that answers every second read later. */
class SlowFilesystem extends TinyFilesystem {
  private later: Settled | undefined;
  private reads = 0;

  override read(nodeid: Nodeid, fh: number, position: number, length: number, out: Out, unique?: Unique): number {
    if (++this.reads % 2 === 1 || unique === undefined) return super.read(nodeid, fh, position, length, out);
    this.later = { unique, answer: into => super.read(nodeid, fh, position, length, into) };
    return DEFERRED;
  }

  settled(): Settled | undefined {
    const { later } = this;
    this.later = undefined;
    return later;
  }
}

let unique = 0n;
function request(opcode: number, nodeid: number, body: Uint8Array): Uint8Array {
  const header = Buffer.alloc(InHeader.SIZE);
  header.writeUInt32LE(InHeader.SIZE + body.length, InHeader.len);
  header.writeUInt32LE(opcode, InHeader.opcode);
  header.writeBigUInt64LE(++unique, InHeader.unique);
  header.writeUInt32LE(nodeid, InHeader.nodeid);
  return new Uint8Array(Buffer.concat([header, body]));
}

t.test('the dispatcher counts what it answers', async t => {
  const dispatcher = new Dispatcher(new SlowFilesystem(), {
    wanted: { passthroughDepth: 0, posixAcl: false },
    log: () => {},
  });
  const send = (bytes: Uint8Array, since?: number): number => dispatcher.handle(bytes, bytes.length, undefined, since);
  const read = (): Uint8Array => {
    const body = Buffer.alloc(ReadIn.SIZE);
    body.writeUInt32LE(100, ReadIn.size);
    return request(Opcode.READ, 3, body);
  };
  const numbers = (): RequestNumbers => RequestCounts.read(dispatcher.counts.counters);

  for (let i = 0; i < 7; i++) send(request(Opcode.LOOKUP, 1, Buffer.from('hello\0')));
  send(request(Opcode.LOOKUP, 3, Buffer.from('hello\0')));
  send(request(Opcode.FORGET, 3, Buffer.alloc(8)));
  send(request(Opcode.FORGET, 3, Buffer.alloc(1)));
  send(request(99, 1, Buffer.alloc(0)));
  send(request(Opcode.GETXATTR, 3, Buffer.concat([Buffer.alloc(GetxattrIn.SIZE), Buffer.from('user.none\0')])));
  dispatcher.handle(new Uint8Array(3), 3);
  t.strictSame(totals(numbers()), { LOOKUP: 8, FORGET: 2, GETXATTR: 1, OTHER: 1 }, 'but not what has no header');
  t.match(Object.fromEntries(numbers().operations.map(({ operation, errors }) => [operation, errors])), {
    LOOKUP: { ENOTDIR: 1 },
    FORGET: { EINVAL: 1 },
    GETXATTR: { ENODATA: 1 },
    OTHER: { ENOSYS: 1 },
  });

  const answer = send(read());
  t.equal(numbers().readBytes, answer - 16, 'bytes of the answer, without its header');
  t.equal(send(read(), performance.now() - 5000), 0, 'an answer that is left for later');
  t.equal(totals(numbers()).READ, 1, 'is not counted yet');
  t.equal(dispatcher.late(), answer);
  t.equal(totals(numbers()).READ, 2, 'but when it is made');
  t.equal(numbers().readBytes, 2 * (answer - 16));
  const reads = numbers().operations.find(({ operation }) => operation === 'READ');
  t.equal(reads?.buckets[33], 1, 'and with the time from when it came');
  t.ok((reads?.nanoseconds as number) > 5e9 && (reads?.nanoseconds as number) < 65e9);
});
t.end();
