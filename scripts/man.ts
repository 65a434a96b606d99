/** Writes the manual pages into dist/man, from the tables of commands and options. scripts/build.sh runs it. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type CommandWords, wordsOf } from '../src/cli/command-words.ts';
import { commands } from '../src/cli/commands.ts';
import { manualOfProgram } from '../src/cli/manual/machine.ts';
import { manuals } from '../src/cli/manual/manuals.ts';
import { manualOfOptions } from '../src/cli/manual/mounts.ts';
import type { Example, Items, Manual } from '../src/cli/manual/words.ts';
import { optionWords } from '../src/mount/plan.ts';

const folder = new URL('../man/', import.meta.url);
const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
/** The date of the pages; SOURCE_DATE_EPOCH sets it for reproducible builds. */
const epoch = process.env.SOURCE_DATE_EPOCH;
const date = (epoch ? new Date(Number(epoch) * 1000) : new Date()).toISOString().slice(0, 10);

/** Commands for administrators of mounts, in section 8; all others are in section 1. */
const ADMINISTRATION = ['serve', 'mount', 'umount', 'install-helper'];
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
/** Text that is shown as it is typed. */
const literal = (text: string): string =>
  text.replace(/[\\\-'`^~]/g, char => LITERALS[char] ?? char).replace(/^(?=\.|$)/gm, '\\&');
const LITERALS: Readonly<Record<string, string>> = {
  ...{ '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti' },
};

/** Pages such as `mount(8)`, and documents; each once. */
function see(...names: readonly string[]): string[] {
  const items = [...new Set(names)].map(name => {
    const [, page, number] = /^(\S+)\((\d)\)$/.exec(name) ?? [];
    return page === undefined ? prose(name) : `.BR ${prose(page)} (${number}) `;
  });
  return section('SEE ALSO', items.map((text, i) => (i < items.length - 1 ? `${text},` : text.trimEnd())).join('\n'));
}

const itemsOf = (items: Items = []): string[] => items.map(([name, what]) => item(bold(name), what));

const exampleOf = ({ what, session }: Example): string =>
  ['.PP', prose(what), '.PP', '.in +4n', '.EX', ...session.map(literal), '.EE', '.in'].join('\n');

/** The sections that follow those made of the help. @param notes go between them */
function manualSections(manual: Manual, status: string, notes: readonly string[], pages: readonly string[]): string[] {
  return [
    ...section('EXIT STATUS', prose(status)),
    ...section('ENVIRONMENT', ...itemsOf(manual.environment)),
    ...section('FILES', ...itemsOf(manual.files)),
    ...section('NOTES', ...notes),
    ...section(
      'EXAMPLES',
      manual.examples
        .map(exampleOf)
        .join('\n')
        .replace(/^\.PP\n/, ''),
    ),
    ...see(...manual.see, ...pages),
  ];
}

function write(name: string, number: number, what: string, lines: readonly string[]): void {
  const title = `.TH ${prose(name.toUpperCase())} ${number} ${date} "lowerdata ${version}" "lowerdata manual"`;
  const text = [title, ...section('NAME', `${prose(name)} \\- ${prose(what)}`), ...lines].join('\n');
  writeFileSync(new URL(`${name}.${number}`, folder), `${text}\n`);
}

/** The tag of an option, such as `-o, --output <path>`: names in bold, the value in italics. */
const optionTag = (flags: string): string =>
  flags.replace(/[^ ,<>]+|<[^>]+>/g, word => (word.startsWith('<') ? `\\fI${word.slice(1, -1)}\\fP` : bold(word)));

/** The help text after the options: paragraphs and items (`name  words`), and the exit status, which may be ''. */
function notesOf(after: string): { notes: string[]; status: string } {
  const [text = '', status = ''] = after.trim().split(/^Exit status[,:] /m);
  const paragraphs = text
    .trim()
    .replace(/\n {3,}/g, ' ')
    .split('\n\n');
  const blocks = paragraphs.filter(Boolean).flatMap(paragraph => ['.PP', ...paragraph.split('\n').map(noteLine)]);
  const needless = (block: string, i: number): boolean =>
    block === '.PP' && (i === 0 || blocks[i + 1]?.startsWith('.TP') === true);
  return { notes: blocks.filter((block, i) => !needless(block, i)), status };
}

/** A line of notes; a line that follows items starts a new paragraph. */
function noteLine(line: string, i: number, lines: readonly string[]): string {
  const parts = /^ {0,2}(\S+) {2,}(\S.*)$/;
  const [, name, words = ''] = parts.exec(line) ?? [];
  if (name) return item(bold(name), words);
  return `${i > 0 && parts.test(lines[i - 1] ?? '') ? '.PP\n' : ''}${prose(line)}`;
}

function writeCommand({ name, what, description, usage, args, options, after }: CommandWords): void {
  const tags = args.map(argument => item(`\\fI${prose(argument.name())}\\fP`, argument.description));
  const others = options.map(({ flags, description }) => item(optionTag(flags), description));
  const manual = manuals.get(name);
  if (!manual) throw new Error(`src/cli/manual has no page of ${name}`);
  const { notes, status } = notesOf(after);
  write(`lowerdata-${name}`, sectionOf(name), what, [
    ...section('SYNOPSIS', prose(`\`lowerdata\` ${usage}`)),
    ...section('DESCRIPTION', prose(description)),
    ...section('ARGUMENTS', ...tags),
    ...section('OPTIONS', ...others),
    ...manualSections(manual, manual.status ?? status, notes, ['lowerdata(1)', 'lowerdata-options(5)']),
  ]);
}

function writeOverview(all: readonly CommandWords[]): void {
  const items = all.map(({ name, what }) => item(`\\fBlowerdata\\-${name}\\fP(${sectionOf(name)})`, what));
  const pages = all.map(({ name }) => `lowerdata-${name}(${sectionOf(name)})`);
  write('lowerdata', 1, 'mounts composefs images and overlay layer stacks in userspace', [
    ...section('SYNOPSIS', prose('`lowerdata` COMMAND [ARGUMENT...]'), '.br', prose('`lowerdata` --help|--version')),
    ...section('DESCRIPTION', prose(`${description}.`)),
    ...section('COMMANDS', ...items),
    ...section('OPTIONS', item(optionTag('-h, --help'), 'list the commands; after a command, its options')),
    item(optionTag('-V, --version'), 'print the version'),
    ...manualSections(manualOfProgram, manualOfProgram.status ?? '', [], pages),
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
    ...section('SYNOPSIS', prose('`lowerdata` COMMAND `-o` OPTION[=VALUE][,OPTION[=VALUE]]...')),
    ...section('DESCRIPTION', prose(OPTIONS)),
    ...section('OPTIONS', ...tagged),
    ...section('WITHOUT EFFECT', ...others('without effect')),
    ...section('REFUSED', ...others('refused')),
    ...manualSections(manualOfOptions, manualOfOptions.status ?? '', [], []),
  ]);
}

rmSync(folder, { recursive: true, force: true }); // removes pages of dropped commands
mkdirSync(folder);
const all = await wordsOf(commands);
writeOverview(all);
writeOptions();
for (const command of all) writeCommand(command);
