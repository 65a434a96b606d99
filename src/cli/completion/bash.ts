/** Completion for bash, independent of the package bash-completion. */

import { optionWords } from '../../mount/plan.ts';
import { type CommandWords, type Completes, completesOf, namesOf } from '../command-words.ts';

/**
 * The script that bash sources. Readline also ends words at `=` and `:`, so replies must leave out the part of the word before
 * the last of these. Words as the shell splits them are therefore read from the line itself. Without a reply, bash completes
 * files.
 */
export function bashScript(commands: readonly CommandWords[]): string {
  return `# Completion of lowerdata for bash: source <(lowerdata completion bash)
_lowerdata_mount_option() {
  case "$1" in
${[...optionWords].flatMap(([key, { values }]) => (Array.isArray(values) ? caseOf(key, echo(values)) : [])).join('\n')}
    *=*) ;;
    *) ${echo(mountKeys())} ;;
  esac
}

_lowerdata() {
  local IFS=$' \\t\\n' line=\${COMP_LINE:0:COMP_POINT} head='' choices='' words
  local word=\${line##*[[:blank:]]}
  read -ra words <<<"\${line%"$word"}"
  local whole=$word last=\${words[-1]}
  if [[ $word == --*=* ]]; then last=\${word%%=*} head=$last= word=\${word#*=}; fi
  if ((\${#words[@]} == 1)); then
    choices='${commands.map(({ name }) => name).join(' ')} --help --version'
  elif [[ $word == -* ]]; then
    case "\${words[1]}" in
${commands.map(optionsCase).join('\n')}
    esac
  else
    case "\${words[1]} $last" in
${valueCases(commands).join('\n')}
      *) return ;;
    esac
  fi
  COMPREPLY=($(compgen -P "$head" -W "$choices" -- "$word"))
  COMPREPLY=("\${COMPREPLY[@]#"\${whole%"\${whole##*[=:]}"}"}")
  if [[ "\${COMPREPLY[*]}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _lowerdata lowerdata
`;
}

const echo = (words: readonly string[]): string => `echo '${words.join(' ')}'`;
const caseOf = (key: string, action: string): string => `    '${key}='*) ${action} ;;`;

/** The mount options that have an effect, as they are typed. */
const mountKeys = (): string[] =>
  [...optionWords]
    .filter(([, { effect }]) => effect === 'taken')
    .map(([key, { values }]) => (values ? `${key}=` : key));

const optionsCase = ({ name, options }: CommandWords): string =>
  `      ${name}) choices='${options.flatMap(namesOf).join(' ')}' ;;`;

/** The cases for values of options and for the first argument, grouped by the action that completes them. */
function valueCases(commands: readonly CommandWords[]): string[] {
  const cases = new Map<string, string[]>();
  const add = (completes: Completes | undefined, keys: readonly string[]): void => {
    if (completes) cases.set(action(completes), [...(cases.get(action(completes)) ?? []), ...keys]);
  };
  for (const { name, options, args } of commands) {
    for (const option of options) {
      const keys = namesOf(option).map(key => `'${name} ${key}'`);
      add(completesOf(option), keys);
    }
    add(args[0]?.argChoices, [`'${name} ${name}'`]);
  }
  return [...cases].map(([action, keys]) => `      ${keys.join('|')})\n        ${action}\n        ;;`);
}

function action(completes: Completes): string {
  if (completes === 'files') return 'return';
  if (completes === 'nothing') return 'compopt +o default 2>/dev/null';
  if (completes === 'mount options') return MOUNT_OPTIONS;
  return `choices='${completes.join(' ')}'`;
}

/** Completes the last option of a list, or the value of that option. */
const MOUNT_OPTIONS = `head+=\${word%"\${word##*,}"} word=\${word##*,} choices=$(_lowerdata_mount_option "\${word##*,}")
        if [[ $word == *=* ]]; then head+=\${word%%=*}= word=\${word#*=}; fi`;
