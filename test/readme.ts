/** Proves the tour in README.md: each command prints what is written below it. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { withScratch } from './fixtures/scratch.ts';
import { withoutFuse } from './fixtures/skips.ts';

const home = join(import.meta.dirname, '../..');

/** The commands of a section's blocks, each with its output: as words, because terminals break lines elsewhere than pages do. */
function commandsIn(section: string): [command: string, output: string[]][] {
  const blocks = [...section.matchAll(/^```\n(\$ .*?)^```$/gms)].map(([, block = '']) => block);
  return blocks.flatMap(block =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map(piece => {
        const end = piece.indexOf('\n');
        return [piece.slice(0, end), wordsOf(piece.slice(end))] as [string, string[]];
      }),
  );
}

/** Times of files as one word, because they differ. */
const wordsOf = (text: string): string[] =>
  text
    .replace(/\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b/g, 'TIME')
    .split(/\s+/)
    .filter(word => word !== '');

t.test('the tour', { skip: withoutFuse, timeout: 60_000 }, async t =>
  withScratch(directory => {
    const readme = readFileSync(join(home, 'README.md'), 'utf8');
    const tour = /^## A tour of 60 seconds$(.*?)^## /ms.exec(readme)?.[1] ?? '';
    const commands = commandsIn(tour);
    t.ok(commands.length >= 10, `${commands.length} commands`);
    const env = {
      ...process.env,
      PATH: `${join(home, 'bin')}${delimiter}${process.env.PATH}`,
      LC_ALL: 'C.UTF-8',
      TZ: 'UTC',
    };
    try {
      for (const [command, want] of commands) {
        const { stdout, stderr } = spawnSync('sh', ['-c', `umask 022; ${command}`], {
          ...{ cwd: directory, env, encoding: 'utf8', timeout: 30_000 },
        });
        t.same(wordsOf(`${stdout}${stderr}`), want, command);
      }
    } finally {
      spawnSync('umount', [join(directory, 'mnt')]); // if the last command was not reached
    }
  }),
);
