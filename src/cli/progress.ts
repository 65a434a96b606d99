/** A line on the terminal that counts files. */
import type { PoolFile } from '../builder/file-pool.ts';

const EVERY_MS = 100;

/** What tells how far the digests of files are; silent unless stderr is a terminal. */
export function showProgress(files: readonly PoolFile[]): (done: number, bytes: number) => void {
  if (!process.stderr.isTTY) return () => {};
  const total = files.reduce((sum, { inode }) => sum + inode.sizeBytes, 0);
  let shownAt = 0;
  return (done, bytes) => {
    const ended = done === files.length;
    if (!ended && Date.now() - shownAt < EVERY_MS) return;
    shownAt = Date.now();
    const line = `${done} of ${files.length} files, ${megabytes(bytes)} of ${megabytes(total)} MB`;
    process.stderr.write(ended ? '\r\x1b[K' : `\r\x1b[K${line}`);
  };
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
