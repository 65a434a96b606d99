import t from 'tap';
import { xxh32 } from '../../src/composefs/xxh32.ts';

/** Source: the sanity checks of the xxHash project, and its published examples. */
for (const [rule, text, seed, want] of [
  ['nothing', '', 0, 0x02cc5d05],
  ['nothing, with a seed', '', 0x9e3779b1, 0x36b78ae7],
  ['less than a word', 'a', 0, 0x550d7456],
  ['three bytes', 'abc', 0, 0x32d153ff],
  ['more than four lanes', 'Nobody inspects the spammish repetition', 0, 0xe2293b2f],
] as const)
  t.equal(xxh32(Buffer.from(text), seed), want, rule);
