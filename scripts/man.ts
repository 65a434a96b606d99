/** Writes the manual pages into dist/man, from the tables of commands and options. scripts/build.sh runs it. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type CommandWords, wordsOf } from '../src/cli/command-words.ts';
import { commands } from '../src/cli/commands.ts';
import { optionWords } from '../src/mount/plan.ts';

const folder = new URL('../man/', import.meta.url);
const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
/** The date of the pages; SOURCE_DATE_EPOCH sets it for reproducible builds. */
const epoch = process.env.SOURCE_DATE_EPOCH;
const date = (epoch ? new Date(Number(epoch) * 1000) : new Date()).toISOString().slice(0, 10);

/** Commands for administrators of mounts, in section 8; all others are in section 1. */
const ADMINISTRATION = ['mount', 'umount', 'install-helper'];
/** Commands whose exit status is that of the program with the same name. */
const NAMESAKES = ['mount', 'umount'];
const sectionOf = (command: string): number => (ADMINISTRATION.includes(command) ? 8 : 1);

/** Text for roff, with words in backquotes in bold. */
const prose = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/`([^`]+)`/g, '\\fB$1\\fP')
    .replace(/^(?=[.'])/gm, '\\&');
const bold = (text: string): string => `\\fB${prose(text)}\\fP`;
const item = (tag: string, text: string): string => `.TP\n${tag}\n${prose(text)}`;
/** A section; nothing if it has no text. */
const section = (name: string, ...blocks: readonly string[]): string[] =>
  blocks.join('') === '' ? [] : [`.SH ${name}`, ...blocks];
const see = (...pages: readonly (readonly [name: string, section: number])[]): string[] =>
  section('SEE ALSO', pages.map(([name, number]) => `.BR ${prose(name)} (${number})`).join(' ,\n'));

function write(name: string, number: number, what: string, lines: readonly string[]): void {
  const title = `.TH ${prose(name.toUpperCase())} ${number} ${date} "lowerdata ${version}" "lowerdata manual"`;
  const text = [title, ...section('NAME', `${prose(name)} \\- ${prose(what)}`), ...lines].join('\n');
  writeFileSync(new URL(`${name}.${number}`, folder), `${text}\n`);
}

/** The tag of an option, such as `-o, --output <path>`: names in bold, the value in italics. */
const optionTag = (flags: string): string =>
  flags.replace(/[^ ,<>]+|<[^>]+>/g, word => (word.startsWith('<') ? `\\fI${word.slice(1, -1)}\\fP` : bold(word)));

/** The help text after the options: paragraphs, items (`name  words`), and the exit status in its own section. */
function notes(after: string): string[] {
  const [text = '', status] = after.trim().split(/^Exit status[,:] /m);
  const paragraphs = text.trim().replace(/\n +/g, ' ').split('\n\n');
  const blocks = paragraphs.filter(Boolean).flatMap(paragraph => ['.PP', ...paragraph.split('\n').map(noteLine)]);
  const needless = (block: string, i: number): boolean =>
    block === '.PP' && (i === 0 || blocks[i + 1]?.startsWith('.TP') === true);
  return [
    ...section('NOTES', ...blocks.filter((block, i) => !needless(block, i))),
    ...section('EXIT STATUS', prose(status ?? '')),
  ];
}

/** A line of notes; a line that follows items starts a new paragraph. */
function noteLine(line: string, i: number, lines: readonly string[]): string {
  const parts = /^(\S+) {2,}(\S.*)$/;
  const [, name, words = ''] = parts.exec(line) ?? [];
  if (name) return item(bold(name), words);
  return `${i > 0 && parts.test(lines[i - 1] ?? '') ? '.PP\n' : ''}${prose(line)}`;
}

function writeCommand({ name, what, description, usage, args, options, after }: CommandWords): void {
  const tags = args.map(argument => item(`\\fI${prose(argument.name())}\\fP`, argument.description));
  const others = options.map(({ flags, description }) => item(optionTag(flags), description));
  write(`lowerdata-${name}`, sectionOf(name), what, [
    ...section('SYNOPSIS', prose(`\`lowerdata\` ${usage}`)),
    ...section('DESCRIPTION', prose(description)),
    ...section('ARGUMENTS', ...tags),
    ...section('OPTIONS', ...others),
    ...notes(after),
    ...(NAMESAKES.includes(name) ? section('EXIT STATUS', `That of \\fB${name}\\fP(8).`) : []),
    ...see(['lowerdata', 1], ['lowerdata-options', 5]),
  ]);
}

function writeOverview(all: readonly CommandWords[]): void {
  const items = all.map(({ name, what }) => item(`\\fBlowerdata\\-${name}\\fP(${sectionOf(name)})`, what));
  write('lowerdata', 1, 'mounts composefs images and overlay layer stacks in userspace', [
    ...section('SYNOPSIS', prose('`lowerdata` COMMAND [ARGUMENT...]'), '.br', prose('`lowerdata` --help|--version')),
    ...section('DESCRIPTION', prose(`${description}.`)),
    ...section('COMMANDS', ...items),
    ...section('OPTIONS', item(optionTag('-h, --help'), 'list the commands; after a command, its options')),
    item(optionTag('-V, --version'), 'print the version'),
    ...see(...all.map(({ name }) => [`lowerdata-${name}`, sectionOf(name)] as const), ['lowerdata-options', 5]),
  ]);
}

const OPTIONS = `
Options of mounts, separated by commas, after \`-o\`. Commands that read a stack without a mount take them as well.
Stacks \`A:B::C\` and images that are given without \`lowerdir\` default to \`metacopy=on\`, redirects followed and
\`verity=on\`; layers that \`lowerdir\` gives default to \`metacopy=off\` and \`verity=off\`, as in the kernel.`.trim();

function writeOptions(): void {
  const rows = [...optionWords];
  const taken = rows.filter(([, { effect }]) => effect === 'taken');
  const tagged = taken.map(([key, { values, what }]) => {
    const value = Array.isArray(values) ? values.map(bold).join('|') : `\\fI${prose(String(values))}\\fP`;
    return item(values ? `${bold(`${key}=`)}${value}` : bold(key), what);
  });
  /** The options of one effect, grouped if their descriptions are the same. */
  const others = (effect: string): string[] => {
    const rest = rows.filter(([, row]) => row.effect === effect);
    const words = new Set(rest.map(([, { what }]) => what));
    const keys = (what: string): string[] => rest.filter(([, row]) => row.what === what).map(([key]) => bold(key));
    return [...words].map(what => item(keys(what).join(', '), what));
  };
  write('lowerdata-options', 5, 'options of mounts', [
    ...section('DESCRIPTION', prose(OPTIONS)),
    ...section('OPTIONS', ...tagged),
    ...section('WITHOUT EFFECT', ...others('without effect')),
    ...section('REFUSED', ...others('refused')),
    ...see(['lowerdata', 1], ['lowerdata-mount', 8], ['mount', 8]),
  ]);
}

rmSync(folder, { recursive: true, force: true }); // removes pages of dropped commands
mkdirSync(folder);
const all = await wordsOf(commands);
writeOverview(all);
writeOptions();
for (const command of all) writeCommand(command);
