/** Proves src/sys/errno.ts against errno.h as Node publishes it; the two numbers that Node lacks are asm-generic's. */

import { execFileSync } from 'node:child_process';
import { constants } from 'node:os';
import t from 'tap';
import * as errno from '../../src/sys/errno.ts';

const system: Record<string, number> = { ...constants.errno, EUCLEAN: 117, ENOTUNIQ: 76 };
const numbers = Object.entries<unknown>(errno).filter((e): e is [string, number] => typeof e[1] === 'number');

t.ok(numbers.length > 30, 'there are numbers to check');
for (const [name, number] of numbers) {
  t.equal(number, system[name], `${name} is the system's`);
  t.equal(errno.errnoName(number), name, `${number} is named ${name}`);
  t.equal(errno.errnoName(-number), name, `-${number} is named ${name}`);
}
const program = 'import os, sys; print(*(os.strerror(int(n)) for n in sys.argv[1:]), sep="\\n")';
const texts = execFileSync('python3', ['-c', program, ...numbers.map(([, number]) => String(number))], {
  encoding: 'utf8',
  env: { ...process.env, LC_ALL: 'C' },
});
t.strictSame(
  numbers.map(([, number]) => errno.errnoText(-number)),
  texts.trim().split('\n'),
  'the words of strerror(3)',
);
t.equal(errno.errnoName(999), 'errno 999', 'a number without a name is shown as it is');
t.equal(errno.errnoText(999), 'errno 999');

t.equal(errno.must(0, 'zero'), 0, 'must passes zero on');
t.equal(errno.must(7, 'seven'), 7, 'must passes a count on');
t.throws(
  () => errno.must(-2, 'open /a'),
  { name: 'ENOENT', errno: 2, message: 'open /a: No such file or directory' },
  'must throws for a negative errno, and says what and which',
);
t.ok(new errno.ErrnoError(errno.EUCLEAN, 'nid 36') instanceof Error, 'an ErrnoError is an Error');
class Other extends errno.ErrnoError {}
t.ok(new Other(5, 'other') instanceof errno.ErrnoError, 'so is one of a class below it');
t.notOk(new errno.ErrnoError(5, 'one') instanceof Other, 'but not the other way round');
t.notOk(Object.assign(new Error('x'), { errno: 5 }) instanceof errno.ErrnoError, 'a number alone makes none');
