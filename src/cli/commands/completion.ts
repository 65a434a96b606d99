/** `lowerdata completion`: prints the script with which a shell completes commands, options and values. */
import type { Command } from 'commander';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { print } from '../../terminal/output.ts';
import { reporting, WRONG_CALL } from '../../terminal/report.ts';
import { argumentOneOf, newCommand, parse } from '../command.ts';
import type { CommandEntry } from '../command-file.ts';
import { type CommandWords, wordsOf } from '../command-words.ts';
import { bashScript } from '../completion/bash.ts';
import { fishScript } from '../completion/fish.ts';
import { zshScript } from '../completion/zsh.ts';

const scripts: ReadonlyMap<ByteString, (commands: readonly CommandWords[]) => string> = new Map([
  ['bash', bashScript],
  ['zsh', zshScript],
  ['fish', fishScript],
]);

export const define = (): Command =>
  newCommand('lowerdata completion')
    .description('Print the script with which a shell completes commands, options, values and files.')
    .usage('bash|zsh|fish')
    .addArgument(argumentOneOf('<shell>', [...scripts.keys()].join(', '), [...scripts.keys()]))
    .addHelpText('after', HELP);

const HELP = `
bash  source <(lowerdata completion bash), in ~/.bashrc
zsh   source <(lowerdata completion zsh), in ~/.zshrc after compinit; or a file _lowerdata in a directory of fpath
fish  lowerdata completion fish | source, in ~/.config/fish/config.fish`;

/** @param commands the table of commands, which includes this one */
export async function runFor(
  args: readonly ByteString[],
  commands: ReadonlyMap<ByteString, CommandEntry>,
): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [shell = ''] = command.args;
  return reporting(WRONG_CALL, async () => {
    const script = scripts.get(shell);
    if (!script) throw new ErrnoError(EINVAL, `${printable(shell)}: not one of ${[...scripts.keys()].join(', ')}`);
    print(script(await wordsOf(commands)));
    return 0;
  });
}
