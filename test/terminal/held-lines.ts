import t from 'tap';
import { heldText, linesIn } from '../../src/terminal/held-lines.ts';

for (const [rule, lines] of [
  ['none', []],
  ['an empty one', ['']],
  ['every byte but the newline', ['\0\x7f\xff', 'caf\xc3\xa9']],
  ['more than a piece has', Array.from({ length: 30_000 }, (_, i) => `line ${i}`)],
] as const) {
  const pieces = heldText(lines);
  t.same([...linesIn(pieces)], lines, rule);
  t.equal(Buffer.concat(pieces).toString('latin1'), lines.map(line => `${line}\n`).join(''), `${rule}: as text`);
}
