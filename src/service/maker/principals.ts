/** Users and groups that an administrator names: `USER`, `@GROUP`, by name or number. */
import { readFileSync } from 'node:fs';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError, systemError } from '../../sys/errno.ts';
import type { Peer } from '../varlink/implementation.ts';

export interface Principals {
  readonly uids: ReadonlySet<number>;
  readonly gids: ReadonlySet<number>;
}

/** Root alone. */
export const NOBODY_ELSE: Principals = { uids: new Set(), gids: new Set() };

/**
 * Reads `USER,@GROUP,…`. Names are looked up in the files of the system alone.
 * @param option names it in messages. Throws ErrnoError EINVAL.
 */
export function parsePrincipals(list: ByteString, option: string): Principals {
  const [uids, gids] = [new Set<number>(), new Set<number>()];
  for (const word of list.split(',')) {
    const isGroup = word.startsWith('@');
    const id = isGroup ? idOf(word.slice(1), '/etc/group') : idOf(word, '/etc/passwd');
    if (id === undefined)
      throw new ErrnoError(
        EINVAL,
        `${option}: ${printable(word) || 'an empty name'}: not known here; numbers always are`,
      );
    (isGroup ? gids : uids).add(id);
  }
  return { uids, gids };
}

/** Ids are 32 bits; the highest one stands for none. */
const ID_MAX = 2 ** 32 - 2;

/** The number of a user or group, which may be one itself; undefined if there is none. @param file as passwd(5) or group(5) */
function idOf(word: ByteString, file: string): number | undefined {
  if (word === '') return undefined;
  const text = NUMBER.test(word) ? word : numberIn(file, word);
  return text !== undefined && NUMBER.test(text) && Number(text) <= ID_MAX ? Number(text) : undefined;
}
const NUMBER = /^\d{1,10}$/;

function numberIn(file: string, name: ByteString): string | undefined {
  const entries = contentsOf(file)
    .split('\n')
    .map(line => line.split(':'));
  return entries.find(([own]) => own === name)?.[2];
}

function contentsOf(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    throw systemError(error, file);
  }
}

/** Whether a client is root, or one of them, by its user or any of its groups. */
export const isAmong = ({ uids, gids }: Principals, { uid, gid, groups }: Peer): boolean =>
  uid === 0 || uids.has(uid) || [gid, ...groups].some(group => gids.has(group));
