/** Completion for fish. */
import type { Option } from 'commander';
import { optionWords } from '../../mount/plan.ts';
import { type CommandWords, completesOf } from '../command-words.ts';

export function fishScript(commands: readonly CommandWords[]): string {
  return `# Completion of lowerdata for fish: lowerdata completion fish | source
function __lowerdata_words
    test (count (commandline -opc)) -eq $argv[1]
end

function __lowerdata_command
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end

function __lowerdata_mount_options
    set -l before (commandline -ct | string replace -r '^--[^=]*=' '' | string match -r '.*,')
    printf '%s%s\\t%s\\n' \\
${mountWords().join(' \\\n')}
end

${commands.flatMap(commandLines).join('\n')}
`;
}

const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;
const line = (...parts: readonly string[]): string => ['complete -c lowerdata', ...parts].join(' ');

function commandLines({ name, what, options, args }: CommandWords): string[] {
  const choices = args[0]?.argChoices;
  return [
    line("-n '__lowerdata_words 1'", `-f -a ${name} -d ${quoted(what)}`),
    ...options.map(option => optionLine(name, option)),
    ...(choices
      ? [line(`-n '__lowerdata_command ${name}; and __lowerdata_words 2'`, `-f -a '${choices.join(' ')}'`)]
      : []),
  ];
}

function optionLine(command: string, option: Option): string {
  const { short, long, description } = option;
  const completes = completesOf(option);
  return line(
    `-n '__lowerdata_command ${command}'`,
    ...(short ? [`-s ${short.slice(1)}`] : []),
    ...(long ? [`-l ${long.slice(2)}`] : []),
    ...(completes === undefined ? [] : completes === 'files' ? ['-r -F'] : ['-x']),
    ...(completes === 'mount options' ? ["-a '(__lowerdata_mount_options)'"] : []),
    ...(Array.isArray(completes) ? [`-a '${completes.join(' ')}'`] : []),
    `-d ${quoted(description)}`,
  );
}

/** One row for each mount option that has an effect, or for each of its values, with its description. */
function mountWords(): string[] {
  const taken = [...optionWords].filter(([, { effect }]) => effect === 'taken');
  const row = (option: string, what: string): string => `        "$before" ${quoted(option)} ${quoted(what)}`;
  return taken.flatMap(([key, { values, what }]) => {
    if (Array.isArray(values)) return values.map(value => row(`${key}=${value}`, what));
    return [row(values ? `${key}=` : key, what)];
  });
}
