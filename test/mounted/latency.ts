/** Processors that are kept from sleeping while requests follow each other (latency=low), as the kernel tells it. */
import { accessSync, closeSync, constants, lstatSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CPU_LATENCY_DEVICE } from '../../src/sys/cpu-latency.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutFuseUring } from '../fixtures/skips.ts';

/** What all requests of the system come to, in µs. Source: pm_qos_interface.rst. */
function target(): number {
  const value = new Int32Array(1);
  const fd = openSync(CPU_LATENCY_DEVICE, 'r'); // a request, too, but one that changes nothing
  try {
    readSync(fd, value);
  } finally {
    closeSync(fd);
  }
  return value[0] as number;
}

/** Why the kernel cannot be asked. */
function withoutDevice(): string | false {
  try {
    accessSync(CPU_LATENCY_DEVICE, constants.W_OK);
    return target() === 0 && `another program holds ${CPU_LATENCY_DEVICE} at 0`;
  } catch {
    return `no ${CPU_LATENCY_DEVICE} to write to`;
  }
}

for (const [transport, skip] of [
  ['dev', withoutFuse],
  ['uring', withoutFuseUring],
] as const) {
  t.test(`over ${transport}`, { skip: skip || withoutDevice() }, async t => {
    await withScratchAsync(async home => {
      mkdirSync(join(home, 'tree'));
      writeFileSync(join(home, 'tree', 'file'), 'content');
      for (const latency of ['low', 'normal']) {
        const options = `latency=${latency},transport=${transport}`;
        const mount = await ForegroundMount.make(join(home, 'tree'), join(home, `mnt-${latency}`), options);
        try {
          t.not(target(), 0, `${latency}: nothing is asked for by a mount that nobody uses`);
          const targets = new Set<number>();
          for (let i = 0; i < 500; i++) {
            lstatSync(join(mount.root, `missing-${i}`), { throwIfNoEntry: false }); // a request each
            if (i > 400) targets.add(target());
          }
          t.equal(targets.has(0), latency === 'low', `${latency}: no processor sleeps while it is used`);
          t.ok(await soon(() => target() !== 0), `${latency}: soon after, they do again`);
        } finally {
          await mount.clear();
        }
      }
    });
  });
}
