/** `lowerdata info`: prints the contents of composefs images, and the digests of files. */
import { statSync } from 'node:fs';
import type { Command } from 'commander';
import { printImage } from '../../composefs/print.ts';
import { type ImageName, walkImage } from '../../composefs/walk-image.ts';
import { openImage, readImageFile } from '../../erofs/image.ts';
import { ObjectDirectory } from '../../inspect/object-directory.ts';
import { measureWhole } from '../../store/objects.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { EINVAL, ENOTDIR, ErrnoError } from '../../sys/errno.ts';
import { heldText, linesIn } from '../../terminal/held-lines.ts';
import { listDocumentLines, listLines, objectLines, valueLines } from '../../terminal/json-lines.ts';
import { printLines } from '../../terminal/output.ts';
import { Attempts, naming, reporting } from '../../terminal/report.ts';
import type { Algorithm } from '../../verity/digest.ts';
import { ALGORITHM_NAMES, argumentOneOf, collect, newCommand, oneOf, parse, spelledOut } from '../command.ts';
import { dumpJson, dumpText, listJson, listText, objectsOf } from '../info-tree.ts';

const FAILED = 1;

interface InfoFlags {
  readonly basedir?: ByteString;
  readonly filter: ByteString[];
  readonly algorithm?: ByteString;
  readonly json?: true;
}

/** A question about images or files, with its answer as lines of text, or pieces of such text, and as lines of JSON. */
interface Question {
  text(asked: Asked): Iterable<ByteString | Uint8Array>;
  json?(asked: Asked): Iterable<ByteString>;
}

/** The subject of a question. */
interface Asked {
  readonly paths: readonly ByteString[];
  readonly flags: InfoFlags;
  readonly attempts: Attempts;
}

/** The first five are the questions of composefs-info. */
const questions = new Map<ByteString, Question>([
  ['ls', { text: textOfNames(listText), json: jsonOfNames(listJson) }],
  ['dump', { text: textOfNames(dumpText), json: jsonOfNames(dumpJson) }],
  ['objects', { text: listObjects, json: asked => objectsJson(listObjects(asked)) }],
  ['missing-objects', { text: missingObjects, json: asked => objectsJson(missingObjects(asked)) }],
  ['measure-file', { text: measureText, json: measureJson }],
  ['print', { text: printImages }],
]);

const known = (asTool: boolean): ByteString[] => [...questions.keys()].filter(name => !asTool || name !== 'print');

/** @param asTool called as composefs-info, which has fewer questions and options */
export function define(asTool = false): Command {
  const command = newCommand(asTool ? 'composefs-info' : 'lowerdata info')
    .description('Show the contents of composefs images.')
    .usage('[options] QUESTION IMAGE...')
    .addArgument(argumentOneOf('<question>', known(asTool).join(', '), known(asTool)))
    .argument('<images...>', 'images; files for measure-file')
    .option('--basedir <path>', 'the directory in which missing-objects looks for objects')
    .option('--filter <name>', 'only this entry of the root, and the tree below it; may be repeated', collect, []);
  if (asTool) return command;
  return command
    .addOption(oneOf('--algorithm <name>', 'for measure-file: sha256 (default) or sha512', ALGORITHM_NAMES))
    .option('--json', 'print JSON; bytes that are not text are shown as \\xNN');
}

export async function run(args: readonly ByteString[], asTool = false): Promise<number> {
  const command = define(asTool);
  const ended = parse(command, asTool ? spelledOut(command, args) : args);
  if (ended !== undefined) return ended;
  const [name, ...paths] = command.args as [ByteString, ...ByteString[]];
  return reporting(FAILED, () => answer(name, known(asTool), paths, command.opts<InfoFlags>()));
}

function answer(
  name: ByteString,
  known: readonly ByteString[],
  paths: readonly ByteString[],
  flags: InfoFlags,
): number {
  const question = questions.get(name);
  if (!question || !known.includes(name))
    throw new ErrnoError(EINVAL, `${printable(name)}: not one of ${known.join(', ')}`);
  const wrong = flags.filter.find(filter => filter.includes('/'));
  if (wrong !== undefined) throw new ErrnoError(EINVAL, `--filter=${printable(wrong)}: one name, without a slash`);
  const { algorithm } = flags;
  if (algorithm !== undefined && !ALGORITHM_NAMES.includes(algorithm))
    throw new ErrnoError(EINVAL, `--algorithm=${printable(algorithm)}: not one of ${ALGORITHM_NAMES.join(', ')}`);
  if (algorithm !== undefined && name !== 'measure-file')
    throw new ErrnoError(EINVAL, `--algorithm goes with measure-file: an image has its own`);
  if (flags.json && !question.json) throw new ErrnoError(EINVAL, `${name} has no JSON output`);
  const attempts = new Attempts(FAILED);
  const asked = { paths, flags, attempts };
  printLines((flags.json && question.json?.(asked)) || question.text(asked));
  return attempts.status;
}

/** Reads the names of each image. */
function ofImages<T>(
  { paths, flags: { filter }, attempts }: Asked,
  read: (names: Iterable<ImageName>) => T,
): Iterable<readonly [path: ByteString, result: T]> {
  const options = filter.length > 0 ? { toplevel: new Set(filter) } : {};
  return attempts.each(paths, path => {
    const bytes = readImageFile(path);
    return naming(path, () => {
      const image = openImage(bytes);
      if (!image.composefs) throw new ErrnoError(EINVAL, 'an EROFS image, but not a composefs image');
      return read(walkImage(image, options));
    });
  });
}

/** The lines of all images, one image after another; none of an image that cannot be read to its end. */
function textOfNames(show: (names: Iterable<ImageName>) => Iterable<ByteString>): Question['text'] {
  return function* (asked) {
    for (const [, pieces] of ofImages(asked, names => heldText(show(names)))) yield* pieces;
  };
}

function jsonOfNames(show: (name: ImageName) => object): Question['json'] {
  const entriesOf = (names: Iterable<ImageName>): Iterable<ByteString> =>
    linesIn(heldText(listLines(mapped(names, name => valueLines(show(name))))));
  return asked =>
    listDocumentLines(
      'images',
      mapped(ofImages(asked, entriesOf), ([path, entries]) =>
        objectLines([
          ['image', valueLines(printable(path))],
          ['entries', entries],
        ]),
      ),
    );
}

/** The paths of all objects, each once, in byte order. */
function listObjects(asked: Asked): ByteString[] {
  const found = new Set<ByteString>();
  for (const [, objects] of ofImages(asked, names => [...objectsOf(names)]))
    for (const object of objects) found.add(object);
  return [...found].sort();
}

/** The paths of the objects that the base directory lacks; all objects without a base directory. */
function missingObjects(asked: Asked): ByteString[] {
  const { basedir } = asked.flags;
  if (basedir === undefined) return listObjects(asked);
  if (!statSync(bufferOf(basedir)).isDirectory())
    throw new ErrnoError(ENOTDIR, `${printable(basedir)}: not a directory`);
  const directory = new ObjectDirectory(basedir);
  try {
    const found = asked.attempts.each(listObjects(asked), object => directory.has(object));
    return [...found].filter(([, isThere]) => !isThere).map(([object]) => object);
  } finally {
    directory.close();
  }
}

const objectsJson = (texts: Iterable<ByteString>): Iterable<ByteString> =>
  listDocumentLines(
    'objects',
    mapped(texts, text => valueLines(printable(text))),
  );

const digests = ({ paths, flags, attempts }: Asked) =>
  attempts.each(paths, path => measureWhole(path, flags.algorithm as Algorithm | undefined));

function* measureText(asked: Asked): Generator<ByteString> {
  for (const [, digest] of digests(asked)) yield digest;
}

function measureJson(asked: Asked): Iterable<ByteString> {
  const files = mapped(digests(asked), ([path, digest]) => valueLines({ file: printable(path), digest }));
  return listDocumentLines('files', files);
}

function* printImages({ paths, attempts }: Asked): Generator<ByteString> {
  const listings = attempts.each(paths, path => {
    const bytes = readImageFile(path);
    naming(path, () => openImage(bytes));
    return printImage(bytes);
  });
  for (const [, listing] of listings) yield* listing;
}

function* mapped<T, U>(all: Iterable<T>, change: (one: T) => U): Generator<U> {
  for (const one of all) yield change(one);
}
