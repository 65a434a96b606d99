/** Reads files under each mode of `verity`, with lowerdata and with the kernel's overlayfs, which is the oracle. */
import { readFileSync } from 'node:fs';
import { check, olderThan, orErrno, skip, withLowerdata } from './guest.ts';

/**
 * A rule in words, the name of its file, and the result of reading it with verity=require; the last field is overlayfs's, if
 * different.
 */
export type Row = readonly [rule: string, name: string, result: string, overlayfs?: string];

export interface Stack {
  /** The right content of each file. */
  readonly contents: ReadonlyMap<string, Buffer>;
  /** The source for a mount by lowerdata, and its options except `verity`. */
  readonly source: string;
  readonly options: readonly string[];
  /** Mounts the same stack with overlayfs and the given options. Returns the result of `use`. */
  readonly withOverlayfs: <T>(options: string, use: (root: string) => T) => T;
}

/** The result of reading a whole file: `content` if it is as expected, `other data` if not, or the name of the error. */
export function reading(path: string, content: Buffer): string {
  return orErrno(() => (readFileSync(path).equals(content) ? 'content' : 'other data'));
}

export function checkRows(title: string, rows: readonly Row[], stack: Stack): void {
  const readings = (root: string): Record<string, string> =>
    Object.fromEntries(rows.map(([, name]) => [name, reading(`${root}/${name}`, stack.contents.get(name) as Buffer)]));

  for (const verity of ['require', 'on', 'off']) {
    const found = withLowerdata(stack.source, [...stack.options, `verity=${verity}`], readings);
    if (verity === 'require') for (const [rule, name, result] of rows) check(`${rule}: ${result}`, found[name], result);
    const rule = `${title}, verity=${verity}: overlayfs reads and refuses the same`;
    const tooOld = olderThan(6, 6);
    if (tooOld) {
      skip(rule, `${tooOld}, the first whose overlayfs knows fs-verity`);
      continue;
    }
    const kernel = stack.withOverlayfs(`metacopy=on,redirect_dir=on,verity=${verity}`, readings);
    const differing = rows.filter(([, , , overlayfs]) => overlayfs !== undefined && verity !== 'off');
    check(rule, kernel, {
      ...found,
      ...Object.fromEntries(differing.map(([, name, , overlayfs]) => [name, overlayfs])),
    });
  }
}
