/**
 * The types of varlink, and of descriptors. One value of them describes a field to three readers: the text of the interface
 * (`idl.ts`), the check of what comes (`values.ts`), and the compiler.
 * Source: https://varlink.org/Interface-Definition
 */
import type { Descriptor } from './descriptors.ts';
import type { JsonObject } from './json.ts';

type Shape =
  | { readonly kind: 'string' | 'bool' | 'float' | 'object' | 'fd' }
  | { readonly kind: 'int'; readonly least: number; readonly most: number }
  | { readonly kind: 'enum'; readonly words: readonly string[] }
  | { readonly kind: 'maybe' | 'array' | 'map'; readonly of: Type }
  | { readonly kind: 'struct'; readonly fields: Fields }
  | { readonly kind: 'named'; readonly name: string; readonly of: Type };

/** The type of a value: `Received` here after it came, `Sent` here before it goes. They differ for descriptors. */
export type Type<Received = unknown, Sent = unknown> = Shape & {
  /** Exist only for the compiler; tuples, because an optional property loses the undefined in its type. */
  readonly received?: readonly [Received];
  readonly sent?: readonly [Sent];
};
export type Fields = Readonly<Record<string, Type>>;

export type ReceivedOf<T extends Type> = T extends { readonly received?: readonly [infer R] } ? R : never;
export type SentOf<T extends Type> = T extends { readonly sent?: readonly [infer S] } ? S : never;
/** Fields that came: those that may be missing are undefined then. */
export type Received<F extends Fields> = { readonly [K in keyof F]: ReceivedOf<F[K]> };
type Missable<F extends Fields> = { [K in keyof F]: undefined extends SentOf<F[K]> ? K : never }[keyof F];
/** Fields to send. */
export type Sent<F extends Fields> = { readonly [K in Exclude<keyof F, Missable<F>>]: SentOf<F[K]> } & {
  readonly [K in Missable<F>]?: SentOf<F[K]>;
};

/** Text without NUL. */
export const string: Type<string, string> = { kind: 'string' };
export const bool: Type<boolean, boolean> = { kind: 'bool' };
export const float: Type<number, number> = { kind: 'float' };
/** Any object. */
export const object: Type<JsonObject, JsonObject> = { kind: 'object' };
/** A descriptor that comes with the message. In JSON it is an int: its place among them. */
export const fd: Type<Descriptor, number> = { kind: 'fd' };

/** A whole number, of those that a double holds exactly. */
export const int = (
  least: number = Number.MIN_SAFE_INTEGER,
  most: number = Number.MAX_SAFE_INTEGER,
): Type<number, number> => ({ kind: 'int', least, most });

export const choice = <const W extends readonly string[]>(...words: W): Type<W[number], W[number]> => ({
  kind: 'enum',
  words,
});

export const maybe = <R, S>(of: Type<R, S>): Type<R | undefined, S | undefined> => ({ kind: 'maybe', of });

export const array = <R, S>(of: Type<R, S>): Type<readonly R[], readonly S[]> => ({ kind: 'array', of });

/** Values by names that the sender chooses. */
export const map = <R, S>(of: Type<R, S>): Type<ReadonlyMap<string, R>, ReadonlyMap<string, S>> => ({
  kind: 'map',
  of,
});

export const struct = <F extends Fields>(fields: F): Type<Received<F>, Sent<F>> => ({ kind: 'struct', fields });

/** A type that has a name in the text of the interface. Only a struct or an enum may have one. */
export const named = <R, S>(name: string, of: Type<R, S>): Type<R, S> => ({ kind: 'named', name, of });
