/** What is kept of servers and mounts for another broker. Another version of the program may have written it. */
import type { ConnectionFields, Serve } from '../../server/orders.ts';
import type { RunningServer } from '../server-process.ts';

/** Changes when records do. */
const VERSION = 1;
/** So many users of one superblock are kept; a record has room for them. */
const USERS_MAX = 4096;

/** Whose images a server has. */
export interface KeptDomain {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Descriptor: its channel. */
export interface KeptServer extends Omit<RunningServer, 'channel'> {
  readonly kind: 'server';
  readonly group: number;
  readonly domain: KeptDomain;
}

/** Descriptors: those of `ServedMount`. */
export interface KeptMount {
  readonly kind: 'mount';
  readonly group: number;
  readonly domain: KeptDomain;
  readonly order: Serve;
  readonly connection: ConnectionFields;
  readonly digest: string;
  readonly users: readonly number[];
  readonly startedAt: number;
  readonly isOfClient: boolean;
}

/** No mount of another broker may have a smaller number. */
export interface KeptNumbers {
  readonly kind: 'numbers';
  readonly before: number;
}

type Entry = readonly [name: string, record: object, fds: readonly number[]];

export const serverName = (group: number): string => `s.${group}`;
export const mountName = (id: number): string => `m.${id}`;

export function serverRecord(
  group: number,
  { name, uid, gid }: KeptDomain,
  { channel, ...running }: RunningServer,
): Entry {
  const record: KeptServer = { kind: 'server', group, domain: { name, uid, gid }, ...running };
  return [serverName(group), { version: VERSION, ...record }, [channel]];
}

export function mountRecord(mount: Omit<KeptMount, 'kind'>, fds: readonly number[]): Entry {
  const { domain, users } = mount;
  const { name, uid, gid } = domain;
  const record: KeptMount = { ...mount, kind: 'mount', domain: { name, uid, gid }, users: users.slice(0, USERS_MAX) };
  return [mountName(mount.order.id), { version: VERSION, ...record }, fds];
}

export const numbersRecord = (before: number): Entry => ['n', { version: VERSION, kind: 'numbers', before }, []];

/** @returns undefined for a record of another version */
export function readRecord(record: unknown): KeptServer | KeptMount | KeptNumbers | undefined {
  const { version } = record as { version?: number };
  return version === VERSION ? (record as KeptServer | KeptMount | KeptNumbers) : undefined;
}
