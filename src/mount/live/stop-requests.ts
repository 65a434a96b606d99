/** Signals that end a mount. */
import { printable } from '../../sys/bytes.ts';
import { native } from '../../sys/native.ts';
import { notifySupervisor } from '../supervisor.ts';
import type { LiveMount } from './live-mount.ts';
import { withResolvers } from './resolvers.ts';

/** SIGTERM, SIGINT and SIGHUP: the first unmounts, the second detaches a busy mount, the third gives up on its users. */
export class StopRequests {
  /** Resolves when there is nothing more to wait for. */
  readonly abandoned: Promise<string>;
  private mount: LiveMount | undefined;
  private readonly log: (line: string) => void;
  private readonly abandon: (why: string) => void;
  private count = 0;

  /** Installs the handlers. From here on, the first signal does not end the process. */
  constructor(log: (line: string) => void) {
    this.log = log;
    const { promise, resolve } = withResolvers<string>();
    this.abandoned = promise;
    this.abandon = resolve;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        this.count++;
        if (this.mount) void this.stop(this.mount);
        else if (this.count > 1) native.exit(1); // the mount will not be finished; the watcher removes what was made
      });
    }
  }

  /** Must be called when the mount is made. Handles the signals that came before. */
  attend(mount: LiveMount): void {
    this.mount = mount;
    if (this.count > 0) void this.stop(mount);
  }

  private async stop(mount: LiveMount): Promise<void> {
    try {
      const { place } = mount;
      if (this.count > 2) this.abandon('given up while in use');
      else if (place === undefined && this.count === 1) this.abandon('unmounted');
      if (place === undefined || this.count > 2) return;
      const shown = printable(place.path);
      notifySupervisor('STOPPING=1', `STATUS=unmounting ${shown}`);
      if (await mount.unmount(place, this.count > 1)) {
        if (mount.place) this.log(`unmounted; ${printable(mount.place.path)} is the same mount, and stays`);
        return; // otherwise serving ends now, or with the mount's last user
      }
      const busy = `${shown} is busy and stays mounted; a second signal detaches it`;
      notifySupervisor(`STATUS=${busy}`);
      this.log(busy);
    } catch (error) {
      this.log((error as Error).message);
    }
  }
}
