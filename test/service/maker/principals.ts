/** Proves src/service/maker/principals.ts: how users and groups are named, and who is among them. */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { isAmong, parsePrincipals } from '../../../src/service/maker/principals.ts';

/** The number that id(1) has for a name. */
const idOf = (...words: string[]): number => Number(spawnSync('id', words, { encoding: 'utf8' }).stdout);
const peer = (uid: number, gid: number, ...groups: number[]) => ({ pid: 1, uid, gid, groups });

const named = parsePrincipals('1000,daemon,@4711,@daemon', '--sign-for');
for (const [rule, client, want] of [
  ['root', peer(0, 0), true],
  ['a user by number', peer(1000, 1000), true],
  ['a user by name', peer(idOf('-u', 'daemon'), 1), true],
  ['a group by number', peer(1001, 4711), true],
  ['a supplementary group', peer(1001, 1001, 5, 4711), true],
  ['a group by name', peer(1001, 1001, idOf('-g', 'daemon')), true],
  ['the number of a group as a user', peer(4711, 1001), false],
  ['the number of a user as a group', peer(1001, 1000), false],
  ['root as a group alone', peer(1001, 0), false],
] as const)
  t.equal(isAmong(named, client), want, rule);

for (const [rule, list] of [
  ['a name that nobody has', 'no-such-user'],
  ['a user as a group', '@no-such-group'],
  ['an empty name', '1000,'],
  ['an empty group', '@'],
  ['the number that stands for none', '4294967295'],
  ['a number of too many bits', '4294968296'],
  ['a negative number', '-1'],
  ['a part of a line', 'root:x'],
] as const)
  t.throws(() => parsePrincipals(list, '--sign-for'), { name: 'EINVAL', message: /^--sign-for: / }, rule);
t.end();
