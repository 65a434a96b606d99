/** What a command leaves behind when a signal ends it: nothing that is half done. */

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs an action. A signal that ends the process meanwhile has `cleanUp` run first; signals are looked at where the action
 * awaits something.
 */
export async function cleaningUp<T>(cleanUp: () => void, action: () => Promise<T>): Promise<T> {
  const end = (signal: NodeJS.Signals): void => {
    try {
      cleanUp();
    } finally {
      for (const name of SIGNALS) process.off(name, end);
      process.kill(process.pid, signal); // the caller is to see what ended it
    }
  };
  for (const name of SIGNALS) process.on(name, end);
  try {
    return await action();
  } finally {
    for (const name of SIGNALS) process.off(name, end);
  }
}
