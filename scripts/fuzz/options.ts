/**
 * Mount option texts. Each one is refused with EINVAL and a message, or makes a plan whose layers can be spelled as such a text
 * again. The first line of an input is the source; each further line is one `-o`.
 */
import { type MountPlan, optionWords, planMount } from '../../src/mount/plan.ts';
import { LAYERS_MAX } from '../../src/overlay/options/lowerdir.ts';
import type { ByteString } from '../../src/sys/bytes.ts';
import { bufferOf, byteStringOf } from '../../src/sys/bytes.ts';
import { attempt, EINVAL, ErrnoError } from '../../src/sys/errno.ts';
import { damageBytes, reshape } from './mutate.ts';
import { demand, type Random, type Target } from './target.ts';

const PATHS = [
  'A',
  'B',
  '/a/b',
  'C:D',
  'A:B::C',
  'A::C::D',
  'a\\:b',
  'a\\,b',
  'a\\\\',
  '\\',
  '"A:B"',
  '"a,b"',
  ':',
  '::',
  ':::',
].concat([
  '',
  ' ',
  '\xe4',
  'A:',
  '::A',
  '/'.repeat(300),
  'A:'.repeat(501),
  `${'A:'.repeat(499)}A`,
  '\\072',
  '\\\n',
  'x\0y',
]);
const VALUES = [
  '',
  'on',
  'off',
  'yes',
  '0',
  '-1',
  '1.5',
  '1e3',
  '999999999',
  '9999999999',
  'NaN',
  'ab'.repeat(32),
  '"',
  '=',
  '\\',
];
/** Names that may collide in tables of names. */
const KEYS = [
  '',
  'x-gvfs',
  'X-mount.mkdir',
  '__proto__',
  'constructor',
  'toString',
  'lowerdir+',
  'datadir+',
  'nosuch',
  'LOWERDIR',
];

function make(random: Random): Uint8Array {
  const texts = Array.from({ length: random.below(3) }, () => makeText(random));
  let input: Uint8Array = bufferOf([random.pick(PATHS), ...texts].join('\n')).slice();
  if (random.oneIn(3)) damageBytes(input, random);
  if (random.oneIn(8)) input = reshape(input, bufferOf(makeText(random)), random.pick([1, 5, 20]), random);
  return input;
}

function makeText(random: Random): ByteString {
  return Array.from({ length: random.below(5) }, () => makeOption(random)).join(random.oneIn(20) ? ',,' : ',');
}

function makeOption(random: Random): ByteString {
  const known = [...optionWords.keys()];
  const key = random.oneIn(6)
    ? random.pick(KEYS)
    : random.oneIn(3)
      ? random.pick(['lowerdir', 'basedir'])
      : random.pick(known);
  const values = optionWords.get(key)?.values;
  if (values === undefined && !random.oneIn(6)) return key;
  const value =
    Array.isArray(values) && !random.oneIn(4)
      ? random.pick(values as readonly string[])
      : random.pick(random.oneIn(2) ? PATHS : VALUES);
  return random.oneIn(10) ? `${key}="${value}"` : `${key}=${value}`;
}

function check(input: Uint8Array): void {
  const [source = '', ...texts] = byteStringOf(input).split('\n');
  for (const isRoot of [true, false]) {
    const [strict, sloppy] = [false, true].map(each => plan(source, texts, each, isRoot)) as [Plan, Plan];
    for (const each of [strict, sloppy]) {
      if (each instanceof ErrnoError)
        demand(each.errno === EINVAL && each.message !== '', `refused with ${each.message}`);
      else checkPlan(each);
    }
    if (strict instanceof ErrnoError) continue;
    demand(
      JSON.stringify(strict) === JSON.stringify(sloppy),
      'a sloppy reader makes another plan of options that are known',
    );
    if (!isRoot)
      demand(strict.fuse.flags.includes('nosuid') && strict.fuse.flags.includes('nodev'), 'a user gets more');
  }
}

type Plan = MountPlan | ErrnoError;

const plan = (source: ByteString, texts: ByteString[], sloppy: boolean, isRoot: boolean): Plan =>
  attempt(() => planMount({ source, texts, sloppy, isRoot, isImage: path => path === 'A' }));

function checkPlan({ stack, driver }: MountPlan): void {
  const { layers } = stack;
  demand(layers.length > 0 && layers.length <= LAYERS_MAX, `${layers.length} layers`);
  demand(
    layers.every(({ path }) => path !== ''),
    'a layer without a path',
  );
  demand(
    !layers.some(({ dataOnly }, i) => !dataOnly && layers[i - 1]?.dataOnly),
    'a normal layer below a data-only one',
  );
  demand(layers[0]?.dataOnly === false, 'no normal layer');
  for (const each of Object.values(driver))
    demand(typeof each !== 'number' || each >= 0, 'a timeout that is no number');
  const escaped = layers.map(
    ({ path, dataOnly }, i) => (i === 0 ? '' : dataOnly ? '::' : ':') + path.replace(/[\\:,"]/g, '\\$&'),
  );
  const text = `lowerdir=${escaped.join('')}${layers.length === 1 ? ',basedir=x' : ''}`; // the kernel requires two layers
  const again = plan('none', [text], false, true);
  demand(!(again instanceof ErrnoError), `${text} is refused`);
  const found = JSON.stringify(again.stack.layers.slice(0, layers.length));
  demand(found === JSON.stringify(layers), `${text} is read otherwise`);
}

export const options: Target = { make, check };
