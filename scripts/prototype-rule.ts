/**
 * Compares another lookup rule with the kernel. This is a worked example of the programming interface, and a starting point for a
 * rule of your own in `tryRule`.
 *
 *     npm run build && node dist/scripts/prototype-rule.js [STACKS [SEED]]
 *
 * The rule: a directory on the way does not discard the absolute redirect of a metacopy file. It repairs the quirk R7 of
 * docs/semantics.md. There, a file has its data at /1e/de in a data-only layer, and a layer between them has only
 * the DIRECTORY /1e. The kernel then loses the redirect, and the lookup fails with EIO.
 *
 * Random stacks are looked up by the unchanged rules, which must match the kernel, and by the new rule, which must differ exactly
 * where the kernel returns EIO because of R7. Each difference is printed. The same seed gives the same stacks.
 * Needs root, python3 and overlayfs; 200 stacks take 10 to 20 seconds. Exit status: 0 if all results are as expected and the rule
 * made a difference, 1 if not, 2 if the kernel's answers could not be obtained.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  attempt,
  ErrnoError,
  errnoName,
  isDirectory,
  isRegular,
  type Judge,
  KERNEL_DEFAULTS,
  type Node,
  type Overlay,
  openOverlay,
  Recorder,
  StackDraft,
  splitOptions,
  step,
  TAKES_PART,
} from 'lowerdata';

/** The rule under test: `step`, except that a directory does not discard the redirect of a metacopy file. */
const tryRule: Judge = (rules, search, found, prefixBytes, rest) => {
  const forDataLayers = search.metacopy && search.absolute;
  const verdict = step(rules, search, found, prefixBytes, rest);
  if (forDataLayers && verdict === TAKES_PART && isDirectory(found.mode)) search.absolute = true;
  return verdict;
};

/** A stack from fuzz.py: its layers, and what the kernel shows of it in three passes. */
interface Handed {
  readonly name: string;
  readonly base: string;
  readonly stack: string;
  readonly probes: readonly string[];
  readonly kernel: readonly { readonly tree: Readonly<Record<string, Shown>> }[];
}
type Shown = Partial<Record<'type' | 'lookup_errno' | 'open_errno' | 'content' | 'content_sha256', string>>;

/** One path as a short text: an errno, or the type. A regular file has its content, or the errno of reading it. */
function kernelSays(
  { type, lookup_errno, open_errno, content, content_sha256 }: Shown = { lookup_errno: 'ENOENT' },
): string {
  if (lookup_errno) return lookup_errno;
  return type === 'reg' ? `file ${open_errno ?? content ?? content_sha256}` : type === 'dir' ? type : 'other';
}

function weSay(overlay: Overlay, path: string): string {
  let at: Node | number = overlay.root;
  for (const name of path === '.' ? [] : path.split('/')) {
    if (typeof at === 'number' || !isDirectory(at.top.mode)) return 'ENOENT'; // the kernel was not asked for paths below either
    at = overlay.lookup(at, name);
  }
  if (typeof at === 'number') return errnoName(at);
  return isRegular(at.top.mode) ? `file ${contents(overlay, at)}` : isDirectory(at.top.mode) ? 'dir' : 'other';
}

function contents(overlay: Overlay, node: Node): string {
  const data = attempt(() => overlay.open(node));
  if (data instanceof ErrnoError) return data.name;
  if (typeof data === 'number') return errnoName(data);
  const bytes = Buffer.alloc(data.sizeBytes);
  data.read(bytes, 0, bytes.length, 0);
  data.close();
  const text = bytes.toString('latin1');
  return /^[ -~]*$/.test(text) ? text : createHash('sha256').update(bytes).digest('hex');
}

/** Whether the lookup of a path ends without data after R7 discarded a redirect. */
function isByR7(overlay: Overlay, path: string): boolean {
  const recorder = new Recorder();
  overlay.trace = recorder;
  weSay(overlay, path);
  overlay.trace = undefined;
  const told = recorder.lookups.at(-1)?.events.flatMap(event => ('rule' in event ? [event.rule] : [])) ?? [];
  return told.includes('R7') && told.includes('L8');
}

const counts = { stacks: 0, paths: 0, unchanged: 0, expected: 0, others: 0 };

function compare({ name, base, stack, probes, kernel }: Handed): void {
  process.chdir(base);
  const draft = new StackDraft({ semantics: 'kernel' });
  for (const { key, value } of splitOptions(stack)) draft.set(key, value);
  const plain = openOverlay(draft.finish(KERNEL_DEFAULTS));
  const tried = plain.withRules({}, tryRule);
  const paths = new Set([...probes, ...kernel.flatMap(({ tree }) => Object.keys(tree))]);
  for (const path of paths) {
    const looks = kernel.map(({ tree }) => kernelSays(tree[path])); // passes differ where the order of lookups matters
    const [before, after] = [weSay(plain, path), weSay(tried, path)];
    const told = `${name} /${path}: kernel ${looks[0]}, `;
    if (!looks.includes(before)) {
      counts.unchanged++;
      console.log(`${told}unchanged rules ${before}`);
    }
    if (looks.includes(after)) continue;
    const isExpected = looks[0] === 'EIO' && after.startsWith('file ') && isByR7(plain, path);
    counts[isExpected ? 'expected' : 'others']++;
    console.log(`${told}prototype ${after}${isExpected ? '' : ', which R7 does not explain'}`);
  }
  plain.close();
  counts.stacks++;
  counts.paths += paths.size;
}

function main(stacks: string, seed: string): number {
  const fuzz = new URL('../../test/fixtures/oracle/fuzz.py', import.meta.url).pathname;
  const work = mkdtempSync(join(tmpdir(), 'lowerdata-'));
  try {
    const args = ['--hand-over', '--workdir', work, '--count', stacks, '--seed', seed];
    const { status, stdout } = spawnSync(fuzz, args, { stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 30 });
    if (status !== 0) return 2;
    for (const line of stdout.toString().trim().split('\n')) compare(JSON.parse(line) as Handed);
  } finally {
    process.chdir('/');
    rmSync(work, { recursive: true });
  }
  console.log(
    `${counts.stacks} stacks, ${counts.paths} paths: the unchanged rules differ from the kernel ${counts.unchanged} times, ` +
      `the prototype ${counts.expected} times as expected and ${counts.others} times else`,
  );
  return counts.unchanged === 0 && counts.others === 0 && counts.expected > 0 ? 0 : 1;
}

process.exitCode = main(process.argv[2] ?? '200', process.argv[3] ?? '1');
