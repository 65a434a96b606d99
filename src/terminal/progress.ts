/** Progress bars on stderr. */
import { type Options, Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** Sets the numbers of files and bytes that are done so far. */
  update(files: number, bytes: number): void;
  /** Removes the bar; has to be called in every case. */
  stop(): void;
}

/** A duration such as `59s`, `1m05s` or `2h00m`; cli-progress itself would round to `1m60s`. */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?'; // nothing is done yet
  const two = (n: number): string => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  if (h > 0) return `${h}h${two(m)}m`;
  return m > 0 ? `${m}m${two(s)}s` : `${s}s`;
}
const OPTIONS: Options = { clearOnComplete: true, hideCursor: true, formatTime: durationText };

/** Shows a bar of files and bytes done out of these totals; nothing if stderr is no terminal. */
export function showProgress(totalFiles: number, totalBytes: number): Progress {
  const format = `{bar} {files} of ${totalFiles} files, {megabytes} of ${megabytes(totalBytes)} MB, {eta_formatted} left`;
  const options = { ...OPTIONS, format };
  const bar = new SingleBar(options, Presets.shades_classic);
  if (process.stderr.isTTY) bar.start(totalBytes, 0, { files: 0, megabytes: 0 });
  return {
    update: (done, bytes) => bar.update(bytes, { files: done, megabytes: megabytes(bytes) }),
    stop: () => bar.stop(),
  };
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** Shows a bar of steps done out of `total`; nothing if stderr is no terminal. */
export function showSteps(total: number): { step(): void; stop(): void } {
  const options = { ...OPTIONS, format: '{bar} {value} of {total}, {eta_formatted} left' };
  const bar = new SingleBar(options, Presets.shades_classic);
  if (process.stderr.isTTY) bar.start(total, 0);
  return { step: () => bar.increment(), stop: () => bar.stop() };
}

/**
 * Shows a bar of bytes done out of a total, or only their number if no total is given; nothing if stderr is no terminal. The
 * cursor and the wrapping of lines stay as they are: nothing would restore them if a signal ends work that never awaits anything.
 * @param what stands in front of the bar
 */
export function showBytes(totalBytes?: number, what = ''): { update(bytes: number): void; stop(): void } {
  const format =
    totalBytes === undefined
      ? `${what}{megabytes} MB`
      : `${what}{bar} {megabytes} of ${megabytes(totalBytes)} MB, {eta_formatted} left`;
  const bar = new SingleBar({ ...OPTIONS, hideCursor: false, linewrap: null, format }, Presets.shades_classic);
  if (process.stderr.isTTY) bar.start(totalBytes ?? 0, 0, { megabytes: 0 });
  return { update: bytes => bar.update(bytes, { megabytes: megabytes(bytes) }), stop: () => bar.stop() };
}
