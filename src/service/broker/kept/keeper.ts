/**
 * What the service manager keeps of the service, so that another broker can go on when this one dies. Source: sd_notify(3), FDSTORE=1;
 * systemd.service(5), FileDescriptorStoreMax=.
 */
import { byteStringFromText } from '../../../sys/bytes.ts';
import { native } from '../../../sys/native.ts';
import { SOCK_DGRAM } from '../../../sys/sockets/types.ts';
import { type Capsule, makeCapsule, openCapsule } from './capsule.ts';

/** Keeps records with descriptors by their names. */
export interface Keeper {
  /** Keeps a record, in place of the one that had the name. */
  keep(name: string, record: object, fds: readonly number[]): void;
  drop(name: string): void;
}

/** Without a service manager, nothing outlives the broker. */
export const forgetful: Keeper = { keep: () => {}, drop: () => {} };

/** A name as the service manager has it: of two for one record, the one with the larger number counts. */
interface KeptName {
  readonly full: string;
  readonly number: number;
  readonly name: string;
}

/** @returns undefined for what is something else, such as a socket */
function parseName(full: string): KeptName | undefined {
  const [, number, name = ''] = /^kept\.([1-9]\d*)\.(.+)$/.exec(full) ?? [];
  return number === undefined ? undefined : { full, number: Number(number), name };
}

export const isKept = (full: string): boolean => parseName(full) !== undefined;

class ManagerKeeper implements Keeper {
  private readonly socket: number;
  private readonly log: (line: string) => void;
  private readonly known = new Map<string, KeptName>();
  private next = 1;

  constructor(socket: number, log: (line: string) => void) {
    this.socket = socket;
    this.log = log;
  }

  /** Adds what is kept already. */
  add(kept: KeptName): void {
    const other = this.known.get(kept.name);
    this.next = Math.max(this.next, kept.number + 1);
    if (other) this.remove(other.number < kept.number ? other : kept);
    if (!other || other.number < kept.number) this.known.set(kept.name, kept);
  }

  keep(name: string, record: object, fds: readonly number[]): void {
    const number = this.next++;
    const full = `kept.${number}.${name}`;
    const capsule = makeCapsule(record, fds);
    this.notify(`FDSTORE=1\nFDNAME=${full}\nFDPOLL=0`, [capsule]);
    native.close(capsule);
    this.add({ full, number, name });
  }

  drop(name: string): void {
    const kept = this.known.get(name);
    if (kept) this.remove(kept);
    this.known.delete(name);
  }

  private remove({ full }: KeptName): void {
    this.notify(`FDSTOREREMOVE=1\nFDNAME=${full}`, []);
  }

  private notify(text: string, fds: readonly number[]): void {
    const sent = native.sendMessage(this.socket, Buffer.from(text), Int32Array.from(fds));
    if (sent < 0) this.log('the service manager keeps nothing for the time after this process');
  }
}

/** A keeper, and what it has of an earlier broker. */
export interface Kept {
  readonly keeper: Keeper;
  readonly capsules: ReadonlyMap<string, Capsule>;
}

/** Takes over what an earlier broker has left, which stays kept. @param passed descriptors of the service manager by their names */
export function takeKept(passed: ReadonlyMap<string, number>, log: (line: string) => void): Kept {
  const { NOTIFY_SOCKET } = process.env;
  const socket = NOTIFY_SOCKET ? native.connectSocket(byteStringFromText(NOTIFY_SOCKET), SOCK_DGRAM) : -1;
  const keeper = new ManagerKeeper(socket, log);
  const capsules = new Map<string, Capsule>();
  const kept = [...passed.keys()].flatMap(full => parseName(full) ?? []).sort((a, b) => a.number - b.number);
  for (const each of kept) {
    keeper.add(each);
    for (const fd of capsules.get(each.name)?.fds ?? []) native.close(fd);
    capsules.set(each.name, openCapsule(passed.get(each.full) as number));
  }
  return { keeper: socket >= 0 ? keeper : forgetful, capsules };
}
