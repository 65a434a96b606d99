import t from 'tap';
import { durationText } from '../../src/terminal/progress.ts';

for (const [rule, seconds, want] of [
  ['nothing', 0, '0s'],
  ['seconds', 59, '59s'],
  ['a minute', 60, '1m00s'],
  ['almost two', 119, '1m59s'],
  ['almost an hour', 3599, '59m59s'],
  ['an hour', 3600, '1h00m'],
  ['almost two hours', 7199, '1h59m'],
  ['days', 360_000, '100h00m'],
  ['parts of seconds', 61.9, '1m01s'],
  ['not known yet', Number.NaN, '?'],
] as const)
  t.equal(durationText(seconds), want, rule);
