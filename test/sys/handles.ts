/** Proves src/sys/handles.ts: handles and uuids as Python asks the kernel for them. */
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { bufferOf } from '../../src/sys/bytes.ts';
import { ENOENT, EOPNOTSUPP } from '../../src/sys/errno.ts';
import { type Handle, openHandle, readHandle, readUuid } from '../../src/sys/handles.ts';
import { scratch } from '../fixtures/layers.ts';
import { python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const program = `
import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
h = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); m = ctypes.c_int()
assert libc.name_to_handle_at(-100, sys.argv[1].encode(), h, ctypes.byref(m), 0) == 0
size, kind = struct.unpack_from('Ii', h)
uuid = bytearray(17)
try: fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x80111500, uuid)
except OSError: pass
print(kind, h.raw[8:8 + size].hex(), uuid[1:].hex())`;

t.test('handles and uuids', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  mkdirSync(join(home, 'd'));
  const path = join(home, 'd', 'file');
  writeFileSync(path, 'data');
  const [kind, hex, uuid] = python(program, [path]).trim().split(' ');
  const root = openSync(home, constants.O_RDONLY);
  const handle = readHandle(root, 'd/file') as Handle;
  t.equal(String(handle.type), kind, 'the type');
  t.equal(Buffer.from(handle.bytes).toString('hex'), hex, 'the bytes');
  t.equal(Buffer.from(bufferOf(readUuid(root))).toString('hex'), uuid, 'the uuid, zeros where there is none');

  const file = openSync(path, constants.O_RDONLY);
  t.strictSame(readHandle(file, ''), handle, 'of an open file');
  const opened = openHandle(root, handle, constants.O_RDONLY);
  t.equal(readFileSync(opened, 'utf8'), 'data', 'and back');
  t.equal(readHandle(root, 'none'), -ENOENT, 'of nothing');
  const proc = openSync('/proc', constants.O_RDONLY);
  t.equal(readHandle(proc, 'version'), -EOPNOTSUPP, 'on a filesystem without handles');
  closeSync(proc);
  const other = Uint8Array.from(handle.bytes, byte => byte ^ 0xff);
  t.ok(openHandle(root, { ...handle, bytes: other }, constants.O_RDONLY) < 0, 'a handle of nothing');
  for (const fd of [root, file, opened]) closeSync(fd);
});
t.end();
