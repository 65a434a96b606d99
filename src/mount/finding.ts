/** What commands find out about a stack: one shape for all of them. */
import { type ByteString, printable } from '../sys/bytes.ts';

/** A result of an inspection. */
export interface Finding {
  readonly code: string;
  /** The path in the mount; '/' for the whole stack. */
  readonly path: ByteString;
  /** The layer that causes the finding, if one does. */
  readonly layer?: string;
  readonly message: string;
  /** What to do about it. */
  readonly help: string;
}

/** The shape in JSON. Byte strings become text, as in messages. */
export function findingFields({ code, path, layer, message, help }: Finding): object {
  return { code, path: printable(path), layer: layer ?? null, message, help };
}

/** One line for people, without a newline. */
export function findingAsText({ code, path, layer, message, help }: Finding): string {
  const remedy = help === '' ? '' : `; ${help}`;
  if (path === WHOLE_STACK) return `${code}: ${message}${remedy}`;
  return `${printable(path)}: ${code}${layer ? ` by ${layer}` : ''}: ${message}${remedy}`;
}

/** The path of a finding about the whole stack. */
export const WHOLE_STACK = '/';
