/** How deep overlays may be stacked, asked of the kernel's own overlays. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { refuseDeepNesting } from '../../src/overlay/nesting.ts';
import { errnoName } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { kernelMount, scratch } from '../fixtures/layers.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** What the kernel says to a stack with the layer on top. */
function kernel(layer: string, other: string, at: string): string | undefined {
  const escaped = layer.replace(/[\\:,]/g, '\\$&');
  const result = native.mount('overlay', at, 'overlay', 0, `lowerdir=${escaped}:${other}`);
  if (result < 0) return errnoName(result);
  native.umount(at, 0);
  return undefined;
}

t.test('S6: an overlay of an overlay of an overlay is refused', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const make = (name: string): string => {
    mkdirSync(join(home, name), { recursive: true });
    return join(home, name);
  };
  const [a, b, c] = [make('a/sub'), make('b'), make('c')];
  make('a/sub/deeper');
  const odd = make('odd name: \\o/, tab\tand more/sub');
  const quote = (path: string): string => path.replace(/[\\:,]/g, '\\$&');
  const over = (lowerdir: string, ...more: string[]): string =>
    kernelMount(t, 'overlay', 'overlay', [`lowerdir=${lowerdir}`, ...more].join(','));

  const one = over(`${a}:${b}`);
  const two = over(`${one}:${c}`);
  const twoBelow = over(`${c}:${one}`);
  const odds = over(`${quote(odd)}:${b}`);
  const overOdds = over(`${quote(odds)}:${c}`);
  const plus = kernelMount(t, 'overlay', 'overlay', `lowerdir+=${one},lowerdir+=${c}`);
  const many = over([one, ...Array.from({ length: 8 }, (_, i) => make(`layers/${i}`))].join(':'));
  const data = over(`${c}::${one}`, 'metacopy=on');
  const tmpfs = kernelMount(t, 'tmpfs', 'tmpfs', '', make('tmpfs'));

  const at = make('at');
  const other = make('other');
  for (const [rule, layer] of [
    ['a plain directory', a],
    ['another filesystem', tmpfs],
    ['an overlay', one],
    ['a directory of an overlay', join(one, 'deeper')],
    ['an overlay of an overlay', two],
    ['a directory of one', join(two, 'deeper')],
    ['an overlay with an overlay as lower layer', twoBelow],
    ['an overlay of layers with odd names', odds],
    ['an overlay of such an overlay', overOdds],
    ['layers that were appended one by one', plus],
    ['an overlay of many layers', many],
    ['an overlay with an overlay as data', data],
    ['a missing directory is not ours to refuse', join(home, 'none')],
  ] as const) {
    const want = rule.startsWith('a missing') ? undefined : kernel(layer, other, at);
    const ask = (): void => refuseDeepNesting(layer);
    if (want === undefined) t.doesNotThrow(ask, rule);
    else t.throws(ask, { name: want, message: /nest no deeper/ }, `${rule}: ${want}, as the kernel`);
  }
});
t.end();
