/** Proves native-shims/sockets.c: messages with descriptors, credentials, and waiting for many descriptors. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { E2BIG, EAGAIN, ECONNREFUSED, EINVAL, ENOENT } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM } from '../../src/sys/sockets/types.ts';
import { closesOnExec, descriptors, openOrThrow, python } from '../fixtures/native.ts';

const home = t.testdir({ file: 'passed on', other: 'another' });
const closeAll = (fds: Iterable<number>): void => [...fds].forEach(fd => void (fd >= 0 && native.close(fd)));

function pair(type: number = SOCK_STREAM): [number, number] {
  const ends = new Int32Array(2);
  if (native.socketPair(ends, type) !== 0) throw new Error('no socket pair');
  return [ends[0] as number, ends[1] as number];
}

t.test('descriptors that Python sends', async t => {
  const send = `import os, socket, sys
fds = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
socket.send_fds(socket.socket(fileno=3), [b'xyz'], fds)`;
  const [file, other] = [join(home, 'file'), join(home, 'other')];
  for (const [rule, program, args, room, received, want] of [
    ['one', send, [file], 1, 3, ['passed on']],
    ['two', send, [file, other], 3, 3, ['passed on', 'another']],
    ['the first of two, where there is room for one', send, [file, other], 1, 3, ['passed on']],
    ['none is wanted', send, [file], 0, 3, []],
    ['bytes without one', 'import os; os.write(3, b"x")', [], 2, 1, []],
    ['the end of the connection', 'pass', [], 2, 0, []],
  ] as const) {
    const before = descriptors();
    const [mine, theirs] = pair();
    t.ok(closesOnExec(mine) && closesOnExec(theirs), `${rule}: the pair is close-on-exec`);
    python(program, [...args], theirs);
    native.close(theirs);
    const fds = new Int32Array(room);
    t.equal(native.receiveMessage(mine, new Uint8Array(16), fds, 0), received, rule);
    const found = [...fds].filter(fd => fd >= 0);
    t.same(
      found.map(fd => fs.readFileSync(fd, 'latin1')),
      want,
    );
    t.ok(found.every(closesOnExec), `${rule}: close-on-exec`);
    closeAll([...fds, mine]);
    t.equal(descriptors(), before, `${rule}: no descriptor is left`);
  }
});

t.test('descriptors that Python receives', async t => {
  const [mine, theirs] = pair(SOCK_SEQPACKET);
  const fds = Int32Array.from(['file', 'other'], name => openOrThrow(join(home, name)));
  t.equal(native.sendMessage(mine, Buffer.from('two'), fds), 3);
  const receive = `import os, socket
data, fds, *_ = socket.recv_fds(socket.socket(fileno=3), 100, 10)
print(data, [os.read(fd, 100) for fd in fds])`;
  t.equal(python(receive, [], theirs), "b'two' [b'passed on', b'another']\n");
  t.equal(native.sendMessage(mine, Buffer.from('x'), new Int32Array(254)), -E2BIG);
  closeAll([mine, theirs, ...fds]);
});

t.test('connections, and who makes them', async t => {
  const path = join(fs.mkdtempSync('/tmp/socket-'), 's');
  t.teardown(() => fs.rmSync(join(path, '..'), { recursive: true }));
  const listening = native.listenStream(path);
  native.setStatusFlags(listening, fs.constants.O_NONBLOCK);
  t.equal(native.accept(listening), -EAGAIN, 'nobody yet');
  const client = native.connectSocket(path, SOCK_STREAM);
  const server = native.accept(listening);
  t.ok(closesOnExec(server));
  t.equal(native.receiveMessage(server, new Uint8Array(1), new Int32Array(1), 0), -EAGAIN, 'it does not block');
  const who = new Int32Array(3);
  t.equal(native.peerCredentials(server, who), 0);
  t.same([...who], [process.pid, process.getuid?.(), process.getgid?.()]);
  closeAll([client, server, listening]);
});

t.test('waiting for many', async t => {
  const epoll = native.epollCreate();
  const pairs = Array.from({ length: 100 }, () => pair());
  for (const [mine] of pairs) t.equal(native.epollControl(epoll, 1, mine, 1), 0);
  const out = new Int32Array(256);
  t.equal(native.epollWait(epoll, out, 0), 0, 'nothing is there');
  const [[first, end] = [-1, -1]] = pairs;
  fs.writeSync(end, 'x');
  t.equal(native.epollWait(epoll, out, -1), 1);
  t.same([...out.subarray(0, 2)], [first, 1]);
  for (const [, theirs] of pairs.slice(1)) fs.writeSync(theirs, 'x');
  t.equal(native.epollWait(epoll, out, 0), 64, 'no more at once');
  t.equal(native.epollWait(epoll, new Int32Array(4), 0), 2, 'and no more than there is room for');
  t.equal(native.epollControl(epoll, 2, first, 0), 0);
  closeAll(pairs.flat());
  t.equal(native.epollWait(epoll, out, 0), 0);
  closeAll([epoll]);
});

t.test('datagrams', async t => {
  const program = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0'))
s.settimeout(20)
print('bound', flush=True)
print(s.recv(4096))`;
  const dir = fs.mkdtempSync('/tmp/notify-'); // a short path: an address has at most 108 bytes
  t.teardown(() => fs.rmSync(dir, { recursive: true }));
  for (const [rule, address] of [
    ['a path', join(dir, 'socket')],
    ['an abstract name', `@lowerdata-test-${process.pid}`],
  ] as const) {
    const child = spawn('python3', ['-c', program, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    let printed = '';
    child.stdout.on('data', chunk => {
      printed += chunk;
    });
    await once(child.stdout, 'data');
    const before = descriptors();
    const socket = native.connectSocket(address, SOCK_DGRAM);
    t.equal(fs.writeSync(socket, Buffer.from('READY=1\nSTATUS=\xff', 'latin1')), 16, `${rule}: the bytes sent`);
    closeAll([socket]);
    const nobody = native.connectSocket(`${address}-none`, SOCK_DGRAM);
    t.equal(nobody, address[0] === '@' ? -ECONNREFUSED : -ENOENT, `${rule}: nobody`);
    t.equal(descriptors(), before, `${rule}: no descriptor is left`);
    await once(child, 'close');
    t.equal(printed, "bound\nb'READY=1\\nSTATUS=\\xff'\n", `${rule}: the bytes received`);
  }
  t.equal(native.connectSocket('', SOCK_DGRAM), -EINVAL, 'no address');
});
t.end();
