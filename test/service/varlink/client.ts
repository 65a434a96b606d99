/** Proves the client against a service in Python, and where services listen. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CallError, VarlinkClient } from '../../../src/service/varlink/client.ts';
import { listenAt } from '../../../src/service/varlink/listen.ts';
import { attempt } from '../../../src/sys/errno.ts';
import { native } from '../../../src/sys/native.ts';
import { descriptors, openOrThrow } from '../../fixtures/native.ts';
import { shop } from '../../fixtures/varlink/service.ts';

const home = fs.mkdtempSync('/tmp/varlink-');
t.teardown(() => fs.rmSync(home, { recursive: true }));
const [one, two] = ['one', 'two'].map(name => join(home, name)) as [string, string];
for (const file of [one, two]) fs.writeFileSync(file, `contents of ${file}`);

/** Answers calls by a table of replies, in order; prints each call, and the contents of its descriptors. */
const program = `import json, os, socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print('ready', flush=True)
s, _ = listening.accept()
for reply, files in json.loads(sys.argv[2]):
    data, fds, *_ = socket.recv_fds(s, 65536, 8)
    print(json.dumps([data.decode(), [os.read(fd, 99).decode() for fd in fds]]), flush=True)
    pieces = [p.encode() for p in reply]
    fds = [os.open(f, os.O_RDONLY) for f in files]
    for piece in pieces:
        socket.send_fds(s, [piece], fds)
        fds = []
        time.sleep(.02)
s.close()`;

t.test('calls', async t => {
  const path = join(home, 'python');
  const echo = [['{"parameters":{"text":"a"}}\0']];
  const replies = [
    [...echo, []],
    [['{"parameters":', '{"contents":["x"],"user":7}}\0'], []],
    [['{"parameters":{"files":[1,0]}}\0'], [one, two]],
    [['{"error":"org.example.Shop.SoldOut","parameters":{"what":"tea"}}\0'], []],
    [['{"parameters":{"number":1},"continues":true}\0{"parameters":{"number":2}}\0'], []],
    [['{"parameters":{"number":"no number"}}\0'], []],
    [['half'], []],
  ];
  const child = spawn('python3', ['-c', program, path, JSON.stringify(replies)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.on('data', chunk => {
    printed += chunk;
  });
  await once(child.stdout, 'data');
  const client = new VarlinkClient(path, 20_000);
  const before = descriptors();
  t.strictSame(client.call(shop, 'Echo', { text: 'a' }), {
    text: 'a',
    number: undefined,
    points: undefined,
    names: undefined,
  });
  t.strictSame(client.call(shop, 'Read', { first: openOrThrow(one), others: [openOrThrow(two)] }), {
    contents: ['x'],
    user: 7,
  });
  const opened = client.call(shop, 'Open', { paths: [] });
  if (opened instanceof CallError) return t.fail(opened.error);
  t.same(
    opened.files.map(({ fd }) => fs.readFileSync(fd, 'utf8')),
    [two, one].map(file => `contents of ${file}`),
  );
  const taken = opened.files[0]?.take() ?? -1;
  t.match(client.call(shop, 'Fail', { how: 'known' }), {
    error: 'org.example.Shop.SoldOut',
    parameters: { what: 'tea' },
  });
  t.equal(fs.fstatSync(taken).isFile(), true, 'what was taken stays open');
  native.close(taken);
  t.equal(descriptors(), before, 'the others are closed');
  t.strictSame([...client.stream(shop, 'Count', { to: 2 })], [{ number: 1 }, { number: 2 }]);
  t.match(
    attempt(() => client.call(shop, 'Echo', {})),
    { name: 'EPROTO', message: /Echo: wrong number/ },
  );
  t.match(
    attempt(() => client.call(shop, 'Echo', {})),
    { name: 'EPIPE' },
  );
  client.close();
  await once(child, 'close');
  const calls = printed
    .split('\n')
    .slice(1, -1)
    .map(line => JSON.parse(line));
  const say = (method: string, parameters: object, more = {}): string =>
    `${JSON.stringify({ method: `org.example.Shop.${method}`, parameters, ...more })}\0`;
  t.same(calls.slice(0, 2), [
    [say('Echo', { text: 'a' }), []],
    [say('Read', { first: 0, others: [1] }), [one, two].map(file => `contents of ${file}`)],
  ]);
  t.same(calls[4], [say('Count', { to: 2 }, { more: true }), []]);
});

t.test('a service that does not answer', async t => {
  const path = join(home, 'silent');
  const listening = listenAt(path, 0o600);
  const client = new VarlinkClient(path, 100);
  t.match(
    attempt(() => client.call(shop, 'Echo', {})),
    { name: 'ETIME' },
  );
  client.close();
  native.close(listening);
  t.match(
    attempt(() => new VarlinkClient(path, 100)),
    { name: 'ECONNREFUSED', message: /silent: Connection refused/ },
  );
  t.match(
    attempt(() => new VarlinkClient(join(home, 'nowhere'), 100)),
    { name: 'ENOENT' },
  );
});

t.test('where a service listens', async t => {
  const path = join(home, 'socket');
  const refusal = (path: string): unknown => attempt(() => native.close(listenAt(path, 0o600)));
  const before = descriptors();
  const first = listenAt(path, 0o660);
  t.equal(fs.statSync(path).mode & 0o777, 0o660, 'the mode');
  t.match(refusal(path), { name: 'EBUSY', message: /socket: a service listens there/ }, 'one that lives');
  native.close(first);
  const second = listenAt(path, 0o600);
  t.equal(fs.statSync(path).mode & 0o777, 0o600, 'one that has died is replaced');
  native.close(second);
  t.match(refusal(one), { name: 'EEXIST' }, 'a file');
  t.equal(fs.readFileSync(one, 'utf8'), `contents of ${one}`, 'which stays');
  fs.symlinkSync(one, join(home, 'link'));
  t.match(refusal(join(home, 'link')), { name: 'EEXIST' }, 'a symlink');
  fs.mkdirSync(join(home, 'open'));
  fs.chmodSync(join(home, 'open'), 0o777);
  t.match(refusal(join(home, 'open', 'socket')), { name: 'EACCES', message: /is writable by everyone/ });
  t.match(refusal(join(home, 'none', 'socket')), { name: 'ENOENT' });
  t.match(refusal(join(home, 'x'.repeat(200))), { name: 'ENAMETOOLONG' }, 'a name that is too long');
  t.equal(descriptors(), before, 'no descriptor is left');
});

t.test('sockets of a service manager', async t => {
  const path = join(home, 'activated');
  const main = join(import.meta.dirname, '../../fixtures/varlink/activated.js');
  const start = `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1]); s.listen()
os.dup2(s.fileno(), 4, True)
os.dup2(os.open('/dev/null', 0) if 'file' in sys.argv[5:] else 4, 3, True)
pid = str(os.getpid()) if sys.argv[2] == 'mine' else sys.argv[2]
os.environ.update(LISTEN_PID=pid, LISTEN_FDS=sys.argv[3], LISTEN_FDNAMES='varlink:other')
os.execvp('node', ['node', sys.argv[4]])`;
  for (const [rule, pid, count, kind, want] of [
    ['two sockets', 'mine', '2', '', '{"sockets":{"varlink":3,"other":4},"inherited":[false,false],"variables":[]}'],
    ['of another process', '1', '2', '', '{"inherited":[false,false],"variables":[]}'],
    ['no number', 'mine', '-1', '', '"EINVAL: LISTEN_FDS=-1"'],
    ['a file', 'mine', '2', 'file', '"EINVAL: LISTEN_FDS: descriptor 3 is no socket"'],
  ] as const) {
    fs.rmSync(path, { force: true });
    const child = spawnSync('python3', ['-c', start, path, pid, count, main, kind], { encoding: 'utf8' });
    t.equal(child.stdout.trim(), want, rule);
  }
});
t.end();
