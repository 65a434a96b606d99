import { spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EBADF, ENOSPC } from '../../src/sys/errno.ts';
import { readAll, writeAll } from '../../src/sys/streams.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';

function withFile<T>(path: string, flags: number, use: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
const { O_WRONLY, O_RDONLY, O_CREAT, O_NONBLOCK } = constants;

withScratch(directory => {
  const bytes = Buffer.alloc(3 << 20, 'abcdefg');
  const file = join(directory, 'file');
  withFile(file, O_WRONLY | O_CREAT, fd => writeAll(fd, bytes, 'it'));
  t.ok(readFileSync(file).equals(bytes), 'all is written');
  const pieces = withFile(file, O_RDONLY, fd => [...readAll(fd, 'it')].map(piece => Buffer.from(piece)));
  t.equal(Buffer.concat(pieces).length, bytes.length, 'and read');
  for (const [rule, path, flags, want] of [
    ['a full device', '/dev/full', O_WRONLY, { errno: ENOSPC, message: 'it: No space left on device' }],
    ['a descriptor for reading', file, O_RDONLY, { errno: EBADF, message: 'it: Bad file descriptor' }],
  ] as const)
    t.throws(() => withFile(path, flags, fd => writeAll(fd, bytes, 'it')), want, rule);
  const large = new Uint8Array(2 ** 31 + 5); // its pages are never touched
  withFile('/dev/null', O_WRONLY, fd => writeAll(fd, large, 'it'));
  t.pass('more than 2 GiB is written in several calls');
});

t.test('a pipe that does not block', async t => {
  const directory = mkdtempSync(join(process.env.TMPDIR ?? '/tmp', 'lowerdata-'));
  try {
    const pipe = join(directory, 'pipe');
    run('mkfifo', pipe);
    const late = spawn('sh', ['-c', `exec <'${pipe}'; sleep 0.3; wc -c`], { stdio: ['ignore', 'pipe', 'ignore'] });
    const counted = new Promise<string>(resolve => late.stdout.setEncoding('latin1').on('data', resolve));
    const opened = openSync(pipe, O_WRONLY); // waits for the reader
    closeSync(openSync(pipe, O_RDONLY | O_NONBLOCK));
    withFile(pipe, O_WRONLY | O_NONBLOCK, fd => writeAll(fd, Buffer.alloc(1 << 20), 'it'));
    closeSync(opened);
    t.equal(Number(await counted), 1 << 20, 'is waited for');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
