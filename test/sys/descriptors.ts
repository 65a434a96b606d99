import t from 'tap';
import { openSparing, spareDescriptors } from '../../src/sys/descriptors.ts';
import { EMFILE, ENFILE, ENOENT } from '../../src/sys/errno.ts';

for (const [rule, results, want, given] of [
  ['what can be opened is', [5], 5, 0],
  ['an error of another kind is passed on', [-ENOENT], -ENOENT, 0],
  ['without a descriptor left, the spare ones are given up', [-EMFILE, 5], 5, 1],
  ['the same where the system has none', [-ENFILE, 5], 5, 1],
  ['what still cannot be opened is not tried again', [-EMFILE, -EMFILE], -EMFILE, 1],
] as const) {
  t.test(rule, async t => {
    const calls: string[] = [];
    const takeBack = ['a', 'b'].map(name => spareDescriptors(() => calls.push(name)));
    const left = [...results];
    t.equal(
      openSparing(() => left.shift() as number),
      want,
    );
    t.strictSame(left, []);
    t.strictSame(calls, given ? ['a', 'b'] : [], 'by each who has some');
    for (const take of takeBack) take();
    openSparing(() => -EMFILE);
    t.equal(calls.length, given ? 2 : 0, 'but not by those who took that back');
  });
}
t.end();
