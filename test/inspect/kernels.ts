/** Proves src/inspect/kernels.ts: what `explain --kernel` says of a case is what that kernel did when it was booted. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Explainer } from '../../src/inspect/explain.ts';
import { hazards } from '../../src/inspect/hazards.ts';
import { kernelDifferences } from '../../src/inspect/kernel-differences.ts';
import { CHANGES, KERNELS, type Kernel, kernelOf, REFERENCE } from '../../src/inspect/kernels.ts';
import { splitOptions } from '../../src/overlay/options/split.ts';
import type { Overlay } from '../../src/overlay/overlay.ts';
import { attempt, ErrnoError } from '../../src/sys/errno.ts';
import { type Case, type Fields, materialised, stackOf, unescapeText } from '../fixtures/corpus-stacks.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** What differs from the recording of Linux 6.18; scripts/kernels/record.py has the format. */
interface Difference {
  mount_errno?: string | null;
  tree?: Record<string, Fields | null>;
}
interface Recording {
  kernel: string;
  skipped: Record<string, string>;
  cases: Record<string, Difference>;
}
const folder = join(goldenFolder, '../kernels');
const recordings = new Map<Kernel, Recording>(
  readdirSync(folder).map(name => [
    kernelOf(name.replace('.json', '')),
    JSON.parse(readFileSync(join(folder, name), 'utf8')),
  ]),
);

type Expected = Case['case']['expect'];

/** What a kernel did: the recording of Linux 6.18 with the differences. */
function recorded(expected: Expected, difference: Difference = {}): Expected {
  if (difference.mount_errno) return { mount_errno: difference.mount_errno };
  const tree = { ...expected.tree };
  for (const [path, fields] of Object.entries(difference.tree ?? {})) {
    if (fields === null) delete tree[path];
    else tree[path] = { ...tree[path], ...fields };
  }
  return { ...expected, tree };
}

const TYPES: Readonly<Record<string, RegExp>> = {
  dir: /^(directory of |the root)/,
  reg: /^regular file of /,
  symlink: /^symlink of /,
};
const SPECIAL = /^(character device|block device|fifo|socket) of /;

/** What is wrong with an answer; undefined if it is that of the record. */
function wrong(explainer: Explainer, path: string, record: Fields): string | undefined {
  const { kernel, data } = explainer.explain(`/${path === '.' ? '' : unescapeText(path)}`);
  const { outcome } = kernel;
  if (record.lookup_errno) {
    return outcome.startsWith(String(record.lookup_errno))
      ? undefined
      : `${path}: ${outcome}, not ${record.lookup_errno}`;
  }
  if (!(TYPES[String(record.type)] ?? SPECIAL).test(outcome)) return `${path}: ${outcome}, not ${record.type}`;
  const place = kernel.data ?? data?.outcome ?? '';
  const isError = /^E[A-Z]+/.test(place);
  return isError === (record.open_errno !== undefined && record.open_errno !== null)
    ? undefined
    : `${path}: data ${place}`;
}

const opened = (one: Case): Overlay | ErrnoError => attempt(() => stackOf(one.case.stack, 'kernel'));

t.test('each case of the corpus, by each kernel', { skip: withoutRoot }, async t => {
  const home = process.cwd();
  t.teardown(() => process.chdir(home));
  const cases = materialised(t) as (Case & { case: { api?: string; kernel_expect?: Expected } })[];
  for (const kernel of KERNELS) {
    const failed: string[] = [];
    let answers = 0;
    for (const one of cases) {
      process.chdir(one.base);
      const { stack, expect, kernel_expect = expect } = one.case;
      const expected = recorded(kernel_expect, recordings.get(kernel)?.cases[one.name]);
      if (stack.includes('=fd:')) continue; // no path of the command line is a descriptor
      const overlay = opened(one);
      if (overlay instanceof ErrnoError) {
        if (!expected.mount_errno) failed.push(`${one.name}: is not opened: ${overlay.message}`);
        continue;
      }
      const explainer = new Explainer(overlay, kernel, splitOptions(unescapeText(stack)));
      const { outcome } = explainer.explain('/').kernel;
      answers++;
      if (expected.mount_errno) {
        if (outcome !== expected.mount_errno) failed.push(`${one.name}: ${outcome}, not ${expected.mount_errno}`);
      } else {
        // a digest is checked when the file is opened, which is not told here
        for (const [path, record] of overlay.options.verity === 'off'
          ? Object.entries(expected.tree ?? {}).slice(0, 300)
          : []) {
          answers++;
          const what = wrong(explainer, path, record);
          if (what) failed.push(`${one.name} ${what}`);
        }
      }
      overlay.close();
    }
    t.strictSame(failed, [], `Linux ${kernel}: ${recordings.get(kernel)?.kernel ?? 'the corpus'}`);
    t.ok(answers > 1000, `${answers} answers`);
  }
});

t.test('the table is that of the recordings', async t => {
  t.strictSame(
    [...recordings.keys()].sort(),
    KERNELS.filter(kernel => kernel !== REFERENCE).sort(),
    'all are recorded',
  );
  for (const [kernel, { skipped, cases }] of recordings) {
    t.strictSame(skipped, {}, `${kernel}: no case is left out`);
    for (const { rule, what, since, shown } of Object.values(CHANGES)) {
      const isOlder = KERNELS.indexOf(kernel) < KERNELS.indexOf(since);
      t.equal(shown in cases, isOlder, `${kernel}: ${rule}, ${what}`);
    }
  }
  t.throws(() => kernelOf('5.10'), { name: 'EINVAL', message: /5\.10: not recorded; known are 6\.1, 6\.12, 6\.18/ });
});

t.test('what check finds', { skip: withoutRoot }, async t => {
  const home = process.cwd();
  t.teardown(() => process.chdir(home));
  const one = materialised(t).find(({ name }) => name === 'whiteout.json:xattr-whiteout') as Case;
  process.chdir(one.base);
  const overlay = stackOf(one.case.stack, 'kernel');
  t.match(
    [...kernelDifferences(overlay, '6.1')].sort((a, b) => (a.path < b.path ? -1 : 1)),
    [
      { path: '/d/gone', code: 'kernel', detail: /Linux 6.1: regular file of A; Linux 6.18: ENOENT/ },
      { path: '/d/gone-dir' },
      { path: '/d/gone-y' },
    ],
    'names that lead elsewhere',
  );
  t.strictSame([...kernelDifferences(overlay, '6.12'), ...hazards(overlay, '6.12')], [], 'none where nothing differs');
  overlay.close();
});
t.end();
