/** A varlink interface, described once. */
import type { Fields } from './types.ts';

export interface Method {
  readonly about: string;
  readonly takes: Fields;
  readonly gives: Fields;
  /** Whether it replies more than once, and must be called with `more`. */
  readonly isStream?: boolean;
}

export interface ErrorType {
  readonly about: string;
  readonly holds: Fields;
}

export type Methods = Readonly<Record<string, Method>>;
export type ErrorTypes = Readonly<Record<string, ErrorType>>;

export interface Interface<M extends Methods = Methods, E extends ErrorTypes = ErrorTypes> {
  /** In the notation of reverse domain names. */
  readonly name: string;
  readonly about: string;
  readonly methods: M;
  readonly errors: E;
}

/**
 * Describes an interface.
 * @param about what its text says of it; lines end with \n
 */
export const defineInterface = <const M extends Methods, const E extends ErrorTypes>(
  name: string,
  about: string,
  { methods, errors }: { readonly methods: M; readonly errors: E },
): Interface<M, E> => ({ name, about, methods, errors });
