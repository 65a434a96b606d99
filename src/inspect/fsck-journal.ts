/** What an interrupted fsck has found to be good, so that the next one goes on from there: a file for each stack. */
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { StackOptions } from '../overlay/options.ts';
import { realPath } from '../sys/real-path.ts';
import type { Journal } from './object-check.ts';

/** Lines that may be lost by a kill. */
const LINES_MAX = 256;

export class FsckJournal implements Journal {
  private readonly file: string;
  private readonly good: Set<string>;
  private lines: string[] = [];

  /** Reads what the last run has left. Where there is none, nothing is known. @param purpose runs of another one do not count */
  constructor({ layers }: StackOptions, purpose: string) {
    const real = layers.map(({ path }) => realPath(path));
    const stack = createHash('sha256').update(real.join('\0'), 'latin1').digest('hex');
    this.file = join(directory(), `${purpose}-${stack}`);
    this.good = new Set(linesOf(this.file));
  }

  has(key: string): boolean {
    return this.good.has(key);
  }

  /** Throws what a system call of Node throws where there is no place for the journal. */
  add(key: string): void {
    this.lines.push(key);
    if (this.lines.length >= LINES_MAX) this.flush();
  }

  flush(): void {
    if (this.lines.length === 0) return;
    mkdirSync(directory(), { recursive: true, mode: 0o700 });
    appendFileSync(this.file, `${this.lines.join('\n')}\n`, { mode: 0o600 });
    this.lines = [];
  }

  /** Forgets everything: all is done, or is to be done anew. */
  remove(): void {
    this.good.clear();
    this.lines = [];
    rmSync(this.file, { force: true });
  }
}

/** /var/cache/lowerdata for root, else below $XDG_CACHE_HOME. */
function directory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/lowerdata';
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lowerdata');
}

/** A last line that was cut off stands for nothing that could be mistaken. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}
