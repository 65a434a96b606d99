/** Which files have a digest, and which digests are none, through real mounts. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { dir, file, type Spec } from '../fixtures/fake-layer.ts';
import { fsverityDigest, metacopyOf } from '../fixtures/images/verity.ts';
import { plant } from '../fixtures/layers.ts';
import { Agent, type Answer } from '../fixtures/mounts/agent.ts';
import { ForegroundMount } from '../fixtures/mounts/foreground.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65534;
/** One is checked at once, the other on a thread. */
const contents = { small: 's'.repeat(5000), large: 'l'.repeat(300_000) } as const;
type Object = keyof typeof contents;

/** A digest, and what can be wrong with it. */
type Change = (value: Buffer) => Buffer;
const same: Change = value => value;
const put =
  (at: number, byte: number): Change =>
  value =>
    Buffer.from(value.with(at, byte));
const flip =
  (at: number, bit: number): Change =>
  value =>
    Buffer.from(value.with(at, (value[at] as number) ^ bit));
const constant =
  (...bytes: number[]): Change =>
  () =>
    Buffer.from(bytes);

const values: readonly (readonly [rule: string, change: Change, off: string, on: string, require: string])[] = [
  ['V2: the right digest', same, 'ok', 'ok', 'ok'],
  ['V3: flags are not looked at', put(2, 0xff), 'ok', 'ok', 'ok'],
  ['V2: the first bit of a digest is wrong', flip(4, 1), 'ok', 'EIO', 'EIO'],
  ['V2: the last bit of a digest is wrong', flip(35, 0x80), 'ok', 'EIO', 'EIO'],
  ['V3: no value', constant(), 'ok', 'ok', 'EIO'],
  ['V1: a header alone', constant(0, 4, 0, 1), 'ok', 'ok', 'EIO'],
  ['V1: a header alone, whatever is in it', constant(9, 9, 9, 9), 'ok', 'ok', 'EIO'],
  ['V3: algorithm 0', put(3, 0), 'ok', 'ok', 'EIO'],
  ['V3: algorithm 2, but 32 bytes', put(3, 2), 'ok', 'EIO', 'EIO'],
  ['V3: algorithm 3', put(3, 3), 'ok', 'EIO', 'EIO'],
  ['V3: algorithm 255', put(3, 255), 'ok', 'EIO', 'EIO'],
  ['V3: version 1', put(0, 1), 'ok', 'EIO', 'EIO'],
  ['V3: a length that is too small', put(1, 35), 'ok', 'EIO', 'EIO'],
  ['V3: a length that is too large', put(1, 37), 'ok', 'EIO', 'EIO'],
  ['V3: a byte less', value => value.subarray(0, 35), 'ok', 'EIO', 'EIO'],
  ['V3: a byte less, and it says so', value => put(1, 35)(value).subarray(0, 35), 'ok', 'EIO', 'EIO'],
  ['V3: a byte more, and it says so', value => Buffer.concat([put(1, 37)(value), Buffer.alloc(1)]), 'ok', 'EIO', 'EIO'],
  ['V3: one byte of a digest', value => put(1, 5)(value).subarray(0, 5), 'ok', 'EIO', 'EIO'],
  ['V3: zeros', value => Buffer.concat([value.subarray(0, 4), Buffer.alloc(32)]), 'ok', 'EIO', 'EIO'],
  ['V3: 68 bytes of another digest', constant(0, 68, 0, 2, ...Buffer.alloc(64)), 'ok', 'EIO', 'EIO'],
  ['V3: 69 bytes', constant(0, 69, 0, 2, ...Buffer.alloc(65)), 'ok', 'ERANGE', 'ERANGE'],
  ['V3: 255 bytes', constant(0, 255, 0, 1, ...Buffer.alloc(251)), 'ok', 'ERANGE', 'ERANGE'],
  ['M2: one byte', constant(0), 'EIO', 'EIO', 'EIO'],
  ['M2: three bytes', constant(0, 3, 0), 'EIO', 'EIO', 'EIO'],
];

/** What reading a file gives: `ok` for the right bytes, `wrong` for others, else an errno. */
function judge(answer: Answer, wanted: string): string {
  if (typeof answer !== 'string' || /^E[A-Z]+$/.test(answer)) return String(answer);
  return answer === wanted ? 'ok' : 'wrong';
}

/** A layer with a file for each value and object: `0-small`, `0-large`, `1-small`... */
function plantValues(home: string, prefix: string): void {
  const objects = join(home, 'objects');
  mkdirSync(objects);
  for (const [name, content] of Object.entries(contents)) writeFileSync(join(objects, name), content);
  const entries: Record<string, Spec> = {};
  for (const name of Object.keys(contents) as Object[]) {
    const right = metacopyOf(join(objects, name));
    for (const [i, [, change]] of values.entries()) {
      const xattrs = { [`${prefix}.metacopy`]: change(right).toString('latin1'), [`${prefix}.redirect`]: `/${name}` };
      entries[`${i}-${name}`] = { ...file('', xattrs) };
    }
    const sha512 = metacopyOf(join(objects, name), 'sha512').toString('latin1');
    entries[`sha512-${name}`] = file('', { [`${prefix}.metacopy`]: sha512, [`${prefix}.redirect`]: `/${name}` });
  }
  entries.plain = file('plain');
  plant(join(home, 'A'), dir(entries));
}

for (const [rule, prefix, options, id, missing] of [
  ['root', 'trusted.overlay', '', 0, withoutFuse],
  ['root, passthrough=off', 'trusted.overlay', ',passthrough=off', 0, withoutFuse],
  ['an ordinary user', 'user.overlay', ',userxattr', NOBODY, withoutUserMounts],
] as const) {
  t.test(`${rule}: values of metacopy`, { skip: missing, timeout: 120_000 }, t =>
    withScratchAsync(async home => {
      chmodSync(home, 0o755);
      plantValues(home, prefix);
      const agent = new Agent(id);
      for (const [column, verity] of ['off', 'on', 'require'].entries()) {
        const root = join(home, verity);
        const mount = await ForegroundMount.make(`${home}/A::${home}/objects`, root, `verity=${verity}${options}`, id);
        try {
          for (const [i, [what, , ...wanted]] of values.entries()) {
            for (const [name, content] of Object.entries(contents)) {
              const got = judge(await agent.ask('slurp', join(root, `${i}-${name}`)), content);
              t.equal(got, wanted[column], `verity=${verity}: ${what}: ${name}`);
            }
          }
          for (const [name, content] of Object.entries(contents)) {
            const got = judge(await agent.ask('slurp', join(root, `sha512-${name}`)), content);
            t.equal(got, 'ok', `verity=${verity}: SHA-512: ${name}`);
          }
          t.equal(await agent.ask('slurp', join(root, 'plain')), 'plain', `verity=${verity}: no metacopy file`);
        } finally {
          await mount.clear();
        }
      }
      await agent.end();
    }),
  );
}

t.test('objects in a data-only layer that is an image', { skip: withoutFuse, timeout: 120_000 }, t =>
  withScratchAsync(async home => {
    const data = join(home, 'data');
    mkdirSync(data);
    for (const name of ['small', 'large']) writeFileSync(join(data, name), name.repeat(5));
    command('mkfs', data, join(home, 'data.img')); // files of up to 64 bytes are in it
    const lines = ['/ 4096 40755 2 0 0 0 0.0 - - -'];
    for (const name of ['small', 'large', 'missing']) {
      const digest = fsverityDigest(join(data, name === 'missing' ? 'small' : name));
      lines.push(`/${name} 25 100644 1 0 0 0 0.0 ${name} - ${digest}`);
    }
    writeFileSync(join(home, 'dump'), `${lines.join('\n')}\n`);
    command('mkfs', '--from-file', join(home, 'dump'), join(home, 'image'));
    const bytes = readFileSync(join(home, 'data.img'));
    bytes[bytes.indexOf('large'.repeat(5))] = 'L'.charCodeAt(0);
    writeFileSync(join(home, 'changed.img'), bytes);

    const agent = new Agent();
    for (const [rule, image, options, small, large] of [
      ['as it was', 'data.img', 'verify=open', 'small', 'large'],
      ['as it was, and checked at each read', 'data.img', 'verify=read', 'small', 'large'],
      ['changed', 'changed.img', 'verify=open', 'small', 'EIO'],
      ['changed, and checked at each read', 'changed.img', 'verify=read', 'small', 'EIO'],
      ['changed, and not checked', 'changed.img', 'verity=off', 'small', 'Large'],
    ] as const) {
      const root = join(home, `mnt ${rule}`);
      const mount = await ForegroundMount.make(`${home}/image::${home}/${image}`, root, options);
      try {
        for (const [name, wanted] of [
          ['small', small],
          ['large', large],
          ['missing', 'ENOENT'],
        ] as const)
          t.match(await agent.ask('slurp', join(root, name)), new RegExp(`^${wanted}`), `${rule}: ${name}`);
      } finally {
        await mount.clear();
      }
    }
    await agent.end();
  }),
);
t.end();
