/**
 * Damaged dumps. A text is either refused with EINVAL and a position, or it is a tree. Such a tree must survive being printed and
 * read again, and an image made of it must be readable.
 */
import { parseDump } from '../../src/composefs/dumpfile.ts';
import { printDump } from '../../src/composefs/print-dump.ts';
import { readTree } from '../../src/composefs/read.ts';
import { isWhiteout, type TreeInode, walk } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { openImage } from '../../src/erofs/image.ts';
import type { ByteString } from '../../src/sys/bytes.ts';
import { attempt, EFBIG, EINVAL, ErrnoError } from '../../src/sys/errno.ts';
import { damageBytes, reshape } from './mutate.ts';
import { demand, type Random, type Target } from './target.ts';
import { linesOfText, makeDump, plainXattrs, textOf } from './trees.ts';

/** Texts of fields at the limits, or beyond them. */
const FIELDS = [
  '',
  '-',
  '0',
  '00',
  '-1',
  '4294967295',
  '4294967296',
  '9007199254740991',
  '9007199254740992',
  '9'.repeat(400),
]
  .concat([
    '40755',
    '@100644',
    '120777',
    '777',
    '200000040755',
    '0.0',
    '-0.0',
    '1.999999999',
    '1.1000000000',
    '.5',
    '5.',
  ])
  .concat([
    '\\',
    '\\x',
    '\\x0',
    '\\x00',
    '\\x2f',
    '\\n',
    '\\q',
    '/',
    '//',
    '/a',
    '/a/..',
    '/.',
    'a',
    '/a/a/a',
    'n'.repeat(256),
  ])
  .concat([
    'ab'.repeat(32),
    'user.a=',
    '=',
    'user.a',
    'x='.repeat(9),
    `user.b=${'v'.repeat(33_000)}`,
    `${'n'.repeat(256)}=`,
  ]);

function make(random: Random): Uint8Array {
  const lines = makeDump(random, plainXattrs, 20);
  for (let n = random.below(4); n > 0; n--) damageLine(lines, random);
  let text = textOf(lines);
  if (random.oneIn(4)) damageBytes(text, random);
  if (random.oneIn(8)) text = reshape(text, textOf(makeDump(random, plainXattrs, 5)), random.pick([1, 7, 60]), random);
  return text;
}

/** Changes a field, removes or repeats a line, or adds a hard link to any line, even itself. */
function damageLine(lines: ByteString[], random: Random): void {
  const at = random.below(lines.length);
  const line = lines[at];
  if (line === undefined) return;
  const fields = line.split(' ');
  switch (random.below(6)) {
    case 0:
      lines.splice(at, 1);
      return;
    case 1:
      lines.splice(random.below(lines.length + 1), 0, line);
      return;
    case 2:
      fields.splice(random.below(fields.length), random.below(2), random.pick(FIELDS));
      break;
    case 3:
      fields[2] = '@100644';
      fields[8] = random.pick(lines).split(' ')[0] as ByteString;
      break;
    default:
      fields[random.below(fields.length)] = random.pick(FIELDS);
  }
  lines[at] = fields.join(' ');
}

function check(input: Uint8Array): void {
  const lines = linesOfText(input);
  const root = attempt(() => parseDump(lines));
  const strict = attempt(() => parseDump(lines, true));
  if (root instanceof ErrnoError) {
    demand(root.errno === EINVAL && /^(line \d+: .|the dump is empty)/s.test(root.message), `says ${root.message}`);
    demand(strict instanceof ErrnoError, 'what is refused is taken by the strict reader');
    return;
  }
  const printed = [...printDump(root)];
  if (!(strict instanceof ErrnoError))
    same([...printDump(strict)], printed, 'the strict reader takes it for another tree');
  same(fieldsOf(parseDump(printed)), fieldsOf(root), 'what is printed is read as another tree');
  checkImage(root);
}

/** All names, each with all fields of its inode. */
const fieldsOf = (root: TreeInode): ByteString[] =>
  [...walk(root)].map(([path, { inode, link }]) =>
    JSON.stringify([
      path,
      link,
      { ...inode, mtime: String(inode.mtime), xattrs: [...inode.xattrs], entries: inode.entries.size },
    ]),
  );

/** Checks that the fields an image keeps survive every further round of reading and writing. */
function checkImage(root: TreeInode): void {
  const image = attempt(() => writeImage(root));
  if (image instanceof ErrnoError) {
    demand(image.errno === EINVAL || image.errno === EFBIG, `no image: ${image.message}`);
    return;
  }
  // An image does not record which name of a hard link came first, but the writer marks a whiteout only in that directory.
  if ([...walk(root)].some(([, { inode, link }]) => link && isWhiteout(inode))) return;
  const read = attempt(() => readTree(openImage(image)));
  if (read instanceof ErrnoError) {
    demand(read.errno === EFBIG, `the image cannot be read: ${read.message}`); // sizes up to 2^53 bytes can be written
    return;
  }
  same(
    [...printDump(readTree(openImage(writeImage(read))))],
    [...printDump(read)],
    'an image of an image is of another tree',
  );
}

function same(found: readonly ByteString[], wanted: readonly ByteString[], what: string): void {
  const differs = wanted.findIndex((line, i) => line !== found[i]);
  demand(differs < 0 && found.length === wanted.length, `${what}: ${found[differs]} for ${wanted[differs]}`);
}

export const dumps: Target = { make, check };
