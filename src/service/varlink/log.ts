/** A log that clients cannot fill. */

const MINUTE_MS = 60_000;

/** @returns a log that passes on so many lines in a minute, and says when it leaves some out */
export function limitedLog(log: (line: string) => void, linesMax: number): (line: string) => void {
  let since = Number.NEGATIVE_INFINITY;
  let count = 0;
  return line => {
    const now = performance.now();
    if (now - since >= MINUTE_MS) [since, count] = [now, 0];
    if (count < linesMax) log(line);
    else if (count === linesMax) log(`clients cause more than ${linesMax} lines in a minute, and the rest is left out`);
    count++;
  };
}
