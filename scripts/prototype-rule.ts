/**
 * Tries another rule of lookup beside the kernel: a worked example of the programming interface, and the place to begin
 * with a rule of your own, in `tryRule`.
 *
 *     npm run build && node dist/scripts/prototype-rule.js [STACKS [SEED]]
 *
 * The rule: passing a directory does not forget the absolute redirect of a metacopy file. It repairs the quirk R7 of
 * test/fixtures/oracle/semantics.md: where a layer has merely the DIRECTORY /1e, the data of a file above that is at /1e/de in
 * a data-only layer is lost, and the lookup fails with EIO.
 *
 * Random stacks are looked up by the unchanged rules, which must show what the kernel shows, and by the new one, which must
 * differ where the kernel says EIO because of R7, and nowhere else. Each difference is printed. The same seed gives the same
 * stacks. Needs root, python3 and overlayfs; 200 stacks take 10 to 20 seconds. Exit status: 0 where all is as it must be and the
 * rule made a difference, 1 where not, 2 where the kernel could not be asked.
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
} from 'lowerdata';

/** The rule that is tried: what `step` says, but for what a directory does to the redirect of a metacopy file. */
const tryRule: Judge = (rules, search, found, prefixBytes, rest) => {
  const forDataLayers = search.metacopy && search.absolute;
  const takesPart = step(rules, search, found, prefixBytes, rest);
  if (forDataLayers && takesPart === true && isDirectory(found.mode)) search.absolute = true;
  return takesPart;
};

/** What fuzz.py hands over: where the layers of a stack are, and what the kernel shows of it in three looks. */
interface Handed {
  readonly name: string;
  readonly base: string;
  readonly stack: string;
  readonly probes: readonly string[];
  readonly kernel: readonly { readonly tree: Readonly<Record<string, Shown>> }[];
}
type Shown = Partial<Record<'type' | 'lookup_errno' | 'open_errno' | 'content' | 'content_sha256', string>>;

/** One path in a word or two: an errno, or what is there, and of a file its bytes or why they can not be had. */
function kernelSays(
  { type, lookup_errno, open_errno, content, content_sha256 }: Shown = { lookup_errno: 'ENOENT' },
): string {
  if (lookup_errno) return lookup_errno;
  return type === 'reg' ? `file ${open_errno ?? content ?? content_sha256}` : type === 'dir' ? type : 'other';
}

function weSay(overlay: Overlay, path: string): string {
  let at: Node | number = overlay.root;
  for (const name of path === '.' ? [] : path.split('/')) {
    if (typeof at === 'number' || !isDirectory(at.top.mode)) return 'ENOENT'; // the kernel was not asked further, either
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

/** Whether the lookup of a path ends without data after R7 forgot a redirect. */
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
    const looks = kernel.map(({ tree }) => kernelSays(tree[path])); // they differ where the order of lookups counts
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
