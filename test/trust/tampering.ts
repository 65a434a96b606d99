/** Objects that somebody changes, through real mounts: what is noticed, and when. */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { Agent, type Answer } from '../fixtures/mounts/agent.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts } from '../fixtures/skips.ts';

const NOBODY = 65534;
const BLOCK = 4096;
/** The block that is changed. */
const CHANGED = 40;

/** The two ways to check a file: at once, or on another thread. */
const sizes = { small: 30 * BLOCK - 5, large: 100 * BLOCK + 700 } as const;
type Size = keyof typeof sizes;
const changedBlock = (size: Size): number => (size === 'small' ? 4 : CHANGED);

/** No two blocks are the same, nor are two objects. */
const contentOf = (size: Size, name: string): Buffer =>
  Buffer.from(Array.from({ length: sizes[size] }, (_, i) => (i * 13 + (i >> 12) * 7 + name.length) & 0xff));

/** One object with its two names in a mount, one of which may be opened before something happens, and one after. */
class Subject {
  readonly object: string;
  readonly content: Buffer;
  readonly first: string;
  readonly second: string;
  readonly size: Size;
  private readonly home: string;
  private readonly agent: Agent;

  constructor(home: string, root: string, name: string, size: Size, agent: Agent) {
    this.home = home;
    this.object = join(home, 'objects', name);
    this.content = contentOf(size, name);
    this.first = join(root, name);
    this.second = join(root, `${name}-2`);
    this.size = size;
    this.agent = agent;
  }

  /** Another path in the layer, for what is to take the object's place. */
  get spare(): string {
    return join(this.home, 'objects', 'spare');
  }

  /** Adds one to the first byte of a block, and leaves size and mtime as they were. */
  change(block = changedBlock(this.size)): void {
    const { atime, mtime } = statSync(this.object);
    const fd = openSync(this.object, 'r+');
    writeSync(fd, Buffer.of((this.content[block * BLOCK] as number) + 1), 0, 1, block * BLOCK);
    closeSync(fd);
    utimesSync(this.object, atime, mtime);
  }

  restore(): void {
    writeFileSync(this.object, this.content, { flag: 'r+' });
  }

  /** `right`, `wrong`, or the errno of an open and of reading all. */
  async slurp(path: string): Promise<string> {
    return this.judge(await this.agent.ask('slurp', path), 0, this.content.length);
  }

  async open(path: string): Promise<number> {
    const fd = await this.agent.ask('open', path);
    if (typeof fd !== 'number') throw new Error(`${path}: ${fd}`);
    return fd;
  }

  /** What the bytes of one block are. */
  async block(fd: number, block: number): Promise<string> {
    return this.judge(await this.agent.ask('pread', fd, BLOCK, block * BLOCK), block * BLOCK, BLOCK);
  }

  judge(answer: Answer, at: number, length: number): string {
    if (typeof answer !== 'string' || /^E[A-Z]+$/.test(answer)) return String(answer);
    return answer === this.content.toString('latin1', at, at + length) ? 'right' : 'wrong';
  }
}

interface Case {
  readonly t: Test;
  readonly subject: Subject;
  readonly mount: ForegroundMount;
  /** Whether each read is checked. */
  readonly onRead: boolean;
  readonly agent: Agent;
}

/** What happens to an object, by the name of the object. The mount is there; nothing was opened. */
const cases: Readonly<Record<string, readonly [rule: string, run: (c: Case) => Promise<void>]>> = {
  untouched: [
    'an object that nobody changes is read',
    async ({ t, subject }) => {
      t.equal(await subject.slurp(subject.first), 'right');
      t.equal(await subject.slurp(subject.first), 'right', 'again');
      t.equal(await subject.slurp(subject.second), 'right', 'by another name');
    },
  ],
  wrong: [
    'a wrong object is not opened',
    async ({ t, subject, mount }) => {
      subject.change();
      t.equal(await subject.slurp(subject.first), 'EIO');
      t.equal(await subject.slurp(subject.second), 'EIO');
      const line =
        /OPEN nodeid \d+: EIO: EWRONGVERITY: layer \S+objects: \/wrong-\S+: the digest of the data is [0-9a-f]{64}/;
      t.ok(await soon(() => line.test(mount.log)), 'the log names layer and object');
      subject.restore();
      t.equal(await subject.slurp(subject.first), 'right', 'a failure is not remembered');
    },
  ],
  between: [
    'a change between two opens is seen by the second one, with size and mtime as before',
    async ({ t, subject }) => {
      t.equal(await subject.slurp(subject.first), 'right');
      subject.change();
      t.equal(await subject.slurp(subject.first), 'EIO');
      t.equal(await subject.slurp(subject.second), 'EIO', 'by another name, too');
      subject.restore();
      t.equal(await subject.slurp(subject.first), 'right', 'and back');
    },
  ],
  open: [
    'a change while it is open',
    async ({ t, subject, mount, onRead }) => {
      const fd = await subject.open(subject.first);
      const block = changedBlock(subject.size);
      subject.change();
      for (const [rule, at] of [
        ['the first block', 0],
        ['the one before', block - 1],
        ['the one after', block + 1],
      ] as const)
        t.equal(await subject.block(fd, at), 'right', `${rule} is read`);
      t.equal(
        await subject.block(fd, block),
        onRead ? 'EIO' : 'wrong',
        'the changed one, where reads are checked, not',
      );
      t.equal(await subject.block(fd, block - 1), 'right', 'but those around it still are');
      if (onRead) {
        const place = `layer \\S+objects: /open-${subject.size}: block ${block} `;
        const line = new RegExp(`READ nodeid \\d+: EIO: EWRONGVERITY: ${place}`);
        t.ok(await soon(() => line.test(mount.log)), 'the log names layer, object and block');
      }
      t.equal(await subject.slurp(subject.first), 'EIO', 'another open is refused');
      subject.restore();
      if (onRead) t.equal(await subject.block(fd, block), 'right', 'restored, it is read');
      t.equal(await subject.slurp(subject.first), 'right', 'and can be opened');
    },
  ],
  cut: [
    'an object that is cut off while it is open',
    async ({ t, subject, onRead }) => {
      const fd = await subject.open(subject.first);
      truncateSync(subject.object, 2 * BLOCK + 1);
      t.equal(await subject.block(fd, 1), 'right', 'what is there is read');
      t.equal(
        await subject.block(fd, 10),
        onRead ? 'EIO' : 'wrong',
        'what is missing, where reads are checked, is EIO',
      );
      t.equal(await subject.block(fd, 2), onRead ? 'EIO' : 'wrong', 'so is half a block');
      t.equal(await subject.slurp(subject.first), 'EIO', 'another open is refused');
    },
  ],
  grown: [
    'an object that grows while it is open',
    async ({ t, subject, onRead, agent }) => {
      const fd = await subject.open(subject.first);
      const grown = openSync(subject.object, 'r+');
      ftruncateSync(grown, subject.content.length + 5 * BLOCK);
      closeSync(grown);
      t.equal(await subject.block(fd, 1), 'right', 'what was there is read');
      const end = Math.floor(subject.content.length / BLOCK);
      const last = await agent.ask('pread', fd, 10 * BLOCK, end * BLOCK);
      if (onRead) t.equal(subject.judge(last, end * BLOCK, BLOCK), 'right', 'nothing comes after the end');
      t.equal(await subject.slurp(subject.first), 'EIO', 'another open is refused');
    },
  ],
  renamed: [
    'another file that is renamed over it',
    async ({ t, subject }) => {
      const fd = await subject.open(subject.first);
      writeFileSync(subject.spare, subject.content.toReversed());
      renameSync(subject.spare, subject.object);
      t.equal(await subject.block(fd, 0), 'right', 'A7: what is open stays what it is');
      t.equal(await subject.slurp(subject.first), 'right', 'A7: and is found');
      t.equal(await subject.slurp(subject.second), 'EIO', 'the other file is refused');
    },
  ],
  replaced: [
    'the same content in another file',
    async ({ t, subject }) => {
      copyFileSync(subject.object, subject.spare);
      const fd = await subject.open(subject.first);
      renameSync(subject.spare, subject.object);
      t.equal(await subject.block(fd, 0), 'right');
      t.equal(await subject.slurp(subject.second), 'right', 'is as good');
    },
  ],
  linked: [
    'a hard link to another file in its place',
    async ({ t, subject }) => {
      const fd = await subject.open(subject.first);
      rmSync(subject.object);
      linkSync(join(subject.object, '..', 'other'), subject.object);
      t.equal(await subject.block(fd, 0), 'right', 'what is open stays what it is');
      t.equal(await subject.slurp(subject.second), 'EIO');
    },
  ],
  symlinked: [
    'a symlink in its place, even to the right file',
    async ({ t, subject }) => {
      const fd = await subject.open(subject.first);
      renameSync(subject.object, `${subject.object}.moved`);
      symlinkSync(`${subject.object}.moved`, subject.object);
      t.equal(await subject.block(fd, 0), 'right', 'what is open stays what it is');
      t.equal(await subject.slurp(subject.second), 'ENOENT', 'A4');
    },
  ],
  removed: [
    'an object that is removed',
    async ({ t, subject }) => {
      const fd = await subject.open(subject.first);
      rmSync(subject.object);
      t.equal(await subject.block(fd, 0), 'right', 'what is open stays what it is');
      t.equal(await subject.slurp(subject.second), 'ENOENT', 'A4');
    },
  ],
  dirty: [
    'a change through a mapping that was written to before, which changes no time',
    async ({ t, subject, onRead }) => {
      const block = changedBlock(subject.size);
      const [at, byte] = [block * BLOCK, subject.content[block * BLOCK] as number];
      const writer = new Agent();
      t.equal(await writer.ask('map', subject.object, at, byte), null);
      const fd = await subject.open(subject.first);
      const before = statSync(subject.object, { bigint: true });
      t.equal(await writer.ask('poke', at, (byte + 1) & 0xff), null);
      const after = statSync(subject.object, { bigint: true });
      t.equal(after.ctimeNs, before.ctimeNs, 'as the kernel does it');
      t.equal(await subject.block(fd, block), onRead ? 'EIO' : 'wrong', 'is seen where reads are checked');
      if (onRead) t.equal(await subject.slurp(subject.second), 'EIO', 'and by each open');
      await writer.end();
    },
  ],
  mapped: [
    'a changed block in memory that is mapped',
    async ({ t, subject, onRead, agent }) => {
      const block = changedBlock(subject.size);
      const fd = await subject.open(subject.first);
      const touch = (at: number): Promise<Answer> => agent.ask('touch', fd, at * BLOCK);
      subject.change();
      const changed = ((subject.content[block * BLOCK] as number) + 1) & 0xff;
      t.equal(await touch(block), onRead ? 'SIGBUS' : changed, 'is a signal where reads are checked, not wrong data');
      t.equal(await touch(block + 1), subject.content[(block + 1) * BLOCK], 'the others are there');
    },
  ],
};

/** Who mounts, and with what. An image has a digest for each file, a directory has xattrs that only root can read. */
const ways: readonly (readonly [rule: string, options: string, id: number, onRead: boolean, skip: string | false])[] = [
  ['root, with passthrough', '', 0, false, withoutFuse],
  ['root, passthrough=off', 'passthrough=off', 0, true, withoutFuse],
  ['root, verify=read', 'verify=read', 0, true, withoutFuse],
  ['root, verify=open and passthrough=off', 'verify=open,passthrough=off', 0, false, withoutFuse],
  ['root, objects on an overlay, of which the kernel reads none', '', 0, true, withoutFuse],
  ['an ordinary user', '', NOBODY, true, withoutUserMounts],
];

for (const [rule, options, id, onRead, missing] of ways) {
  t.test(rule, { skip: missing, timeout: 120_000 }, t =>
    withScratchAsync(async home => {
      chmodSync(home, 0o755);
      mkdirSync(join(home, 'objects'));
      if (rule.includes('on an overlay')) mountOverlay(home);
      try {
        makeImage(home);
        await tamper(t, home, options, id, onRead);
      } finally {
        native.umount(join(home, 'objects'), 0); // fails where it is no overlay
      }
    }),
  );
}

/** Mounts, and lets happen what can happen. */
async function tamper(t: Test, home: string, options: string, id: number, onRead: boolean): Promise<void> {
  const mount = await ForegroundMount.make(`${home}/image::${home}/objects`, join(home, 'mnt'), options, id);
  const agent = new Agent(id);
  try {
    for (const [name, [rule, run]] of Object.entries(cases)) {
      for (const size of ['small', 'large'] as const) {
        const subject = new Subject(home, mount.root, `${name}-${size}`, size, agent);
        await t.test(`${rule}: ${size}`, t => run({ t, subject, mount, onRead, agent }));
      }
    }
    await agent.end();
    mount.signal('SIGTERM');
    t.equal(await mount.ended(), 0, `the daemon ends: ${mount.log.slice(-1000)}`);
  } finally {
    await agent.end();
    await mount.clear();
  }
}

/** Makes the place of the objects an overlay of the kernel. */
function mountOverlay(home: string): void {
  const [lower, upper, work] = ['lower', 'upper', 'work'].map(name => join(home, name)) as [string, string, string];
  for (const path of [lower, upper, work]) mkdirSync(path);
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  must(native.mount('overlay', join(home, 'objects'), 'overlay', 0, options), 'mount -t overlay');
}

/** An object for each case and size, and an image in which each has two names. */
function makeImage(home: string): void {
  writeFileSync(join(home, 'objects', 'other'), 'other');
  const lines = ['/ 4096 40755 2 0 0 0 0.0 - - -'];
  for (const name of Object.keys(cases)) {
    for (const size of ['small', 'large'] as const) {
      const object = `${name}-${size}`;
      const path = join(home, 'objects', object);
      writeFileSync(path, contentOf(size, object));
      const digest = fsverityDigest(path);
      for (const file of [object, `${object}-2`])
        lines.push(`/${file} ${sizes[size]} 100644 1 0 0 0 0.0 ${object} - ${digest}`);
    }
  }
  writeFileSync(join(home, 'dump'), `${lines.join('\n')}\n`);
  command('mkfs', '--from-file', join(home, 'dump'), join(home, 'image'));
}
t.end();
