/** Cleaning up when a signal ends a command, so that nothing half done stays behind. */

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs an action. If SIGINT, SIGTERM or SIGHUP arrives meanwhile, `cleanUp` runs before the signal ends the process. Signals are
 * handled only while the action awaits something.
 */
export async function cleaningUp<T>(cleanUp: () => void, action: () => Promise<T>): Promise<T> {
  const end = (signal: NodeJS.Signals): void => {
    try {
      cleanUp();
    } finally {
      for (const name of SIGNALS) process.off(name, end);
      process.kill(process.pid, signal); // shows the parent which signal it was
    }
  };
  for (const name of SIGNALS) process.on(name, end);
  try {
    return await action();
  } finally {
    for (const name of SIGNALS) process.off(name, end);
  }
}
