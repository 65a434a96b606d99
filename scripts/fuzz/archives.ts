/**
 * Damaged tar archives. An archive is either refused with the place, or its entries have as much data as they say. Both are the
 * same in whatever pieces the bytes come, and if data comes as objects.
 */
import type { TarEntry } from '../../src/oci/tar/entry.ts';
import { TarParser, type TarVisitor } from '../../src/oci/tar/parser.ts';
import { attempt, EFBIG, ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { END, type Fields, member, paxHeader } from '../../test/fixtures/oci/archives.ts';
import { damageBytes, reshape } from './mutate.ts';
import { demand, type Random, type Target } from './target.ts';

const BLOCK = 512;
const ENTRIES_MAX = 1000;

const NAMES = [
  '',
  '.',
  '..',
  '/',
  './',
  'a',
  'a/',
  '/a',
  'a//b',
  'a/../b',
  '\xff',
  'n'.repeat(100),
  '.wh.a',
  '.wh..wh..opq',
];
const NUMBERS = [
  '',
  '0',
  '7',
  '644 ',
  '777777777777',
  '-1',
  '8',
  '\x80',
  '\xff',
  '\x80\0\0\0\0\0\0\x01',
  '\xff'.repeat(12),
];
const TYPES = [...'\x000001234567xg', 'L', 'K', 'S', 'S', '?'];
const KEYS = [
  'path',
  'linkpath',
  'size',
  'uid',
  'gid',
  'mtime',
  'SCHILY.xattr.user.a',
  'SCHILY.xattr.',
  'comment',
].concat(
  ['major', 'minor', 'name', 'size', 'realsize', 'numblocks', 'offset', 'numbytes', 'map'].map(
    key => `GNU.sparse.${key}`,
  ),
);
const VALUES = [
  '',
  '0',
  '1',
  '5',
  '-1',
  '1.5',
  '-0.1',
  '9007199254740991',
  '9007199254740992',
  '0,5',
  '0,1,2,3',
  '5,',
  'x\0y',
];
const DATA = ['', 'hello', '1\n0\n5\n', '0\n', '2\n0\n1\n', 'x'.repeat(BLOCK), 'y'.repeat(BLOCK + 1)];

function make(random: Random): Uint8Array {
  const parts = Array.from({ length: random.below(8) }, () => makePart(random));
  let input: Uint8Array = Buffer.concat([...parts, ...(random.oneIn(3) ? [] : [END])]);
  if (random.oneIn(3)) damageBytes(input, random);
  if (random.oneIn(6)) input = reshape(input, makePart(random), random.pick([1, 100, BLOCK]), random);
  return input;
}

function makePart(random: Random): Buffer {
  if (random.oneIn(10)) return Buffer.alloc(BLOCK);
  if (random.oneIn(4)) {
    const records = Array.from({ length: random.below(5) }, () => [random.pick(KEYS), random.pick(VALUES)] as const);
    return paxHeader(...records);
  }
  const fields: Fields = {
    name: random.pick(NAMES),
    linkname: random.pick(NAMES),
    type: random.pick(TYPES),
  };
  if (random.oneIn(2)) fields.magic = 'ustar  \0';
  if (random.oneIn(4))
    fields[random.pick(['mode', 'uid', 'gid', 'size', 'mtime', 'devmajor'] as const)] = random.pick(NUMBERS);
  if (fields.type === 'S')
    fields.raw = [
      [386 + 12 * random.below(8), random.pick(NUMBERS)],
      [482 + random.below(2), random.pick(NUMBERS)],
    ];
  return member(fields, random.pick(DATA));
}

/** Writes down what a parser finds. Bytes of holes are only counted: a small archive can have very many of them. */
class Notes implements TarVisitor {
  readonly lines: string[] = [];
  /** Where the archive has data of files. */
  readonly ranges: (readonly [from: number, to: number])[] = [];
  /** Data of objects, by what they are called. */
  readonly objects = new Map<string, Uint8Array>();
  #bytes = 0;
  #text = '';
  #sizeBytes = 0;

  entry(entry: TarEntry): boolean {
    this.lines.push(JSON.stringify([entry, [...entry.xattrs]]));
    demand(entry.sizeBytes >= 0 && Number.isSafeInteger(entry.sizeBytes), `a size of ${entry.sizeBytes}`);
    demand(entry.at % BLOCK === 0 && entry.dataAt % BLOCK === 0 && entry.dataAt > entry.at, 'an offset within a block');
    this.#sizeBytes = entry.sizeBytes;
    if (entry.storedBytes > 0) this.ranges.push([entry.dataAt, entry.dataAt + entry.storedBytes]);
    return entry.type === 'file' && entry.name !== '..';
  }

  data(bytes: Uint8Array): void {
    demand(bytes.length > 0, 'data without bytes');
    this.#text += Buffer.from(bytes).toString('latin1');
    this.#bytes += bytes.length;
  }

  hole(bytes: number): void {
    demand(bytes > 0, 'a hole without bytes');
    this.#text += `(${bytes})`;
    this.#bytes += bytes;
  }

  end(): void {
    demand(this.#bytes === this.#sizeBytes, `${this.#bytes} bytes of a file of ${this.#sizeBytes}`);
    this.lines.push(this.#text);
    this.#text = '';
    this.#bytes = 0;
  }

  object(name: string): boolean {
    const bytes = this.objects.get(name) as Uint8Array;
    if (bytes.length % 2 === 0) return false;
    this.data(bytes);
    this.end();
    return true;
  }
}

/** Parses in pieces, and passes over data that nobody wants if `skips`. @returns all that is found */
function parse(input: Uint8Array, pieceBytes: number, skips: boolean): Notes {
  const notes = new Notes();
  noting(notes, parser => {
    for (let at = 0; at < input.length; ) {
      const unwanted = skips ? parser.unwantedBytes : 0;
      if (unwanted > 0 && unwanted <= input.length - at) {
        at += unwanted;
        parser.skip();
        continue;
      }
      parser.push(input.subarray(at, at + pieceBytes));
      at += pieceBytes;
    }
  });
  return notes;
}

/** Parses an archive whose data comes as objects where it was found. */
function parseWithObjects(input: Uint8Array, { ranges }: Notes): Notes {
  const notes = new Notes();
  noting(notes, parser => {
    let at = 0;
    for (const [from, to] of ranges) {
      if (to > input.length) break;
      parser.push(input.subarray(at, from));
      const data = input.subarray(from, to);
      notes.objects.set(String(from), data);
      if (!parser.pushObject(String(from), data.length)) parser.push(data);
      at = to;
    }
    parser.push(input.subarray(at));
  });
  return notes;
}

/** Runs a parser to its end, and notes why it refuses the archive, if it does. */
function noting(notes: Notes, feed: (parser: TarParser) => void): void {
  const parser = new TarParser(notes, ENTRIES_MAX);
  const error = attempt(() => {
    feed(parser);
    parser.finish();
  });
  if (!(error instanceof ErrnoError)) return;
  demand(error.errno === EUCLEAN || error.errno === EFBIG, `refused with ${error.name}`);
  demand(/^(entry .*|header) at byte \d+: ./s.test(error.message), `says ${error.message}`);
  notes.lines.push(error.message);
}

function check(input: Uint8Array): void {
  const found = parse(input, input.length, false);
  const whole = found.lines.join('\n');
  const same = (notes: Notes, how: string): void => demand(notes.lines.join('\n') === whole, `${how}: read otherwise`);
  for (const piece of [1, 100, BLOCK, BLOCK + 1]) same(parse(input, piece, false), `pieces of ${piece} bytes`);
  same(parse(input, BLOCK, true), 'data that is passed over');
  same(parseWithObjects(input, found), 'data that comes as objects');
}

export const archives: Target = { make, check };
