/** Completion for zsh, through its functions _arguments and _values. */
import type { Argument, Option } from 'commander';
import { optionWords } from '../../mount/plan.ts';
import { type CommandWords, type Completes, completesOf, namesOf } from '../command-words.ts';

export function zshScript(commands: readonly CommandWords[]): string {
  return `#compdef lowerdata
# Completion of lowerdata for zsh: source <(lowerdata completion zsh)
_lowerdata_mount_options() {
  _values -s , 'mount option' \\
${mountSpecs().join(' \\\n')}
}

_lowerdata() {
  local -a commands=(
${commands.map(({ name, what }) => `    ${quoted(`${name}:${what}`)}`).join('\n')}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
${commands.map(commandCase).join('\n')}
    *) _files ;;
  esac
}

if [[ $funcstack[1] == _lowerdata ]]; then _lowerdata "$@"; else compdef _lowerdata lowerdata; fi
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const escaped = (text: string): string => text.replace(/[\\:[\]]/g, '\\$&');

function commandCase({ name, options, args }: CommandWords): string {
  const specs = [...options.flatMap(optionSpecs), ...args.map(argumentSpec)];
  return `    ${name})\n      _arguments \\\n${specs.map(spec => `        ${quoted(spec)}`).join(' \\\n')}\n      ;;`;
}

/** One spec for each name of an option: `(-o --options)--options=[words]:list:action`. */
function optionSpecs(option: Option): string[] {
  const names = namesOf(option);
  const completes = completesOf(option);
  const again = Array.isArray(option.defaultValue) ? '*' : `(${names.join(' ')})`;
  return names.map(name => {
    const spec = `${again}${name}${completes ? (name === option.long ? '=' : '+') : ''}[${escaped(option.description)}]`;
    return completes ? `${spec}:${/<(.*)>/.exec(option.flags)?.[1]}:${action(completes)}` : spec;
  });
}

function argumentSpec(argument: Argument, i: number): string {
  const { variadic, required, argChoices } = argument;
  const place = variadic ? '*' : `${i + 1}`;
  return `${place}:${required ? '' : ':'}${escaped(argument.name())}:${argChoices ? action(argChoices) : '_files'}`;
}

function action(completes: Completes | undefined): string {
  if (completes === 'mount options') return '_lowerdata_mount_options';
  if (completes === 'files') return '_files';
  return Array.isArray(completes) ? `(${completes.join(' ')})` : ' ';
}

function mountSpecs(): string[] {
  const taken = [...optionWords].filter(([, { effect }]) => effect === 'taken');
  return taken.map(([key, { values, what }]) => {
    const after = Array.isArray(values)
      ? `:value:(${values.join(' ')})`
      : values
        ? `:${escaped(String(values))}:_files`
        : '';
    return `    ${quoted(`${key}[${escaped(what)}]${after}`)}`;
  });
}
