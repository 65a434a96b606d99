/** `lowerdata info`: what is in composefs images, and the digests of files. */
import { existsSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { printDump } from '../builder/dumpfile.ts';
import { measureWhole } from '../builder/objects.ts';
import { printImage } from '../builder/print.ts';
import { readTree } from '../builder/read.ts';
import type { TreeInode } from '../builder/tree.ts';
import { openImage, readImageFile } from '../erofs/image.ts';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EINVAL, ENOTDIR, ErrnoError } from '../sys/errno.ts';
import { argumentOneOf, collect, newCommand, parse, spelledOut } from './command.ts';
import { dumpJson, listJson, listText, objectsOf } from './info-tree.ts';
import { print, printLines } from './output.ts';
import { naming, reporting } from './report.ts';

const FAILED = 1;

interface Flags {
  readonly basedir?: Name;
  readonly filter: Name[];
  readonly json?: true;
}

/** What can be asked of images and files: as lines of text, and as a value for JSON. */
interface Question {
  text(paths: readonly Name[], flags: Flags): Iterable<Name>;
  json?(paths: readonly Name[], flags: Flags): unknown;
}

const objects: Question = { text: listObjects, json: (...given) => listObjects(...given).map(printable) };
const missing: Question = { text: missingObjects, json: (...given) => missingObjects(...given).map(printable) };

/** The first five are those of composefs-info. */
const questions = new Map<Name, Question>([
  ['ls', { text: ofTrees(listText), json: ofTreesJson(listJson) }],
  ['dump', { text: ofTrees(printDump), json: ofTreesJson(dumpJson) }],
  ['objects', objects],
  ['missing-objects', missing],
  ['measure-file', { text: paths => paths.map(path => measureWhole(path)), json: measureJson }],
  ['print', { text: printImages }],
]);

const known = (asTool: boolean): Name[] => [...questions.keys()].filter(name => !asTool || name !== 'print');

/** @param asTool called as composefs-info, which knows less */
export function define(asTool = false): Command {
  const command = newCommand(asTool ? 'composefs-info' : 'lowerdata info')
    .description('Show what is in composefs images.')
    .usage('[options] QUESTION IMAGE...')
    .addArgument(argumentOneOf('<question>', known(asTool).join(', '), known(asTool)))
    .argument('<images...>', 'images; files for measure-file')
    .option('--basedir <path>', 'where missing-objects looks for objects')
    .option('--filter <name>', 'only this name of the root, and what is below; may be repeated', collect, []);
  if (!asTool) command.option('--json', 'print JSON; bytes that are no text show as \\xNN');
  return command;
}

export async function run(args: readonly Name[], asTool = false): Promise<number> {
  const command = define(asTool);
  const ended = parse(command, asTool ? spelledOut(command, args) : args);
  if (ended !== undefined) return ended;
  const [name, ...paths] = command.args as [Name, ...Name[]];
  return reporting(FAILED, () => answer(name, known(asTool), paths, command.opts<Flags>()));
}

async function answer(name: Name, known: readonly Name[], paths: readonly Name[], flags: Flags): Promise<number> {
  const question = questions.get(name);
  if (!question || !known.includes(name))
    throw new ErrnoError(EINVAL, `${printable(name)}: not one of ${known.join(', ')}`);
  const wrong = flags.filter.find(filter => filter.includes('/'));
  if (wrong !== undefined) throw new ErrnoError(EINVAL, `--filter=${printable(wrong)}: one name, without a slash`);
  if (!flags.json) await printLines(question.text(paths, flags));
  else if (!question.json) throw new ErrnoError(EINVAL, `${name} has no JSON`);
  else await print(Buffer.from(`${JSON.stringify(question.json(paths, flags), null, 2)}\n`));
  return 0;
}

function readImage(path: Name, { filter }: Flags): TreeInode {
  const bytes = readImageFile(path);
  return naming(path, () => {
    const image = openImage(bytes);
    if (!image.composefs) throw new ErrnoError(EINVAL, 'an EROFS image, but not of composefs');
    return readTree(image, filter.length > 0 ? { toplevel: new Set(filter) } : {});
  });
}

/** The lines of one image after the other. */
function ofTrees(show: (root: TreeInode) => Iterable<Name>): Question['text'] {
  return function* (paths, flags) {
    for (const path of paths) yield* show(readImage(path, flags));
  };
}

function ofTreesJson(show: (root: TreeInode) => unknown[]): Question['json'] {
  return (paths, flags) => paths.map(path => ({ image: printable(path), entries: show(readImage(path, flags)) }));
}

/** The paths of all objects, each once, in byte order. */
function listObjects(paths: readonly Name[], flags: Flags): Name[] {
  const found = new Set<Name>();
  for (const path of paths) for (const object of objectsOf(readImage(path, flags))) found.add(object);
  return [...found].sort();
}

/** Those that the base directory does not have; without one, all. */
function missingObjects(paths: readonly Name[], flags: Flags): Name[] {
  const { basedir } = flags;
  const all = listObjects(paths, flags);
  if (basedir === undefined) return all;
  if (!statSync(nameBytes(basedir) as Buffer).isDirectory())
    throw new ErrnoError(ENOTDIR, `${printable(basedir)}: not a directory`);
  return all.filter(object => !existsSync(nameBytes(`${basedir}/${object}`) as Buffer));
}

function measureJson(paths: readonly Name[]): unknown {
  return paths.map(path => ({ file: printable(path), digest: measureWhole(path) }));
}

function* printImages(paths: readonly Name[]): Generator<Name> {
  for (const path of paths) {
    const bytes = readImageFile(path);
    yield* naming(path, () => printImage(bytes));
  }
}
