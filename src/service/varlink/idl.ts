/**
 * The text of an interface.
 * Source: https://varlink.org/Interface-Definition, "Grammar"
 */
import type { Interface } from './interface.ts';
import type { Fields, Type } from './types.ts';

/** @returns the text that GetInterfaceDescription gives */
export function describe({ name, about, methods, errors }: Interface): string {
  const parts = [
    `${comment(about)}interface ${name}\n`,
    ...[...typesOf([methods, errors])].map(([name, of]) => `type ${name} ${bare(of)}\n`),
    ...Object.entries(methods).map(
      ([name, { about, takes, gives }]) => `${comment(about)}method ${name}${list(takes)} -> ${list(gives)}\n`,
    ),
    ...Object.entries(errors).map(([name, { about, holds }]) => `${comment(about)}error ${name} ${list(holds)}\n`),
  ];
  return parts.join('\n');
}

/** The parser of github.com/varlink/go skips a byte after each #: an empty line needs its space. */
const comment = (about: string): string => about.replace(/^/gm, '# ').concat('\n');

/** The named types in a description, each after those that it needs. */
function typesOf(value: unknown, found: Map<string, Type> = new Map()): Map<string, Type> {
  if (typeof value !== 'object' || value === null) return found;
  for (const part of Object.values(value)) typesOf(part, found);
  const type = value as Type;
  if (type.kind === 'named') found.set(type.name, type.of);
  return found;
}

const list = (fields: Fields): string => {
  const words = Object.entries(fields).map(([name, type]) => `${name}: ${bare(type)}`);
  const line = `(${words.join(', ')})`;
  return line.length <= LINE ? line : `(\n  ${words.join(',\n  ')}\n)`;
};
const LINE = 80;

function bare(type: Type): string {
  if (type.kind === 'fd') return 'int';
  if (type.kind === 'enum') return `(${type.words.join(', ')})`;
  if (type.kind === 'struct') return list(type.fields);
  if (type.kind === 'named') return type.name;
  if (type.kind === 'maybe') return `?${bare(type.of)}`;
  if (type.kind === 'array') return `[]${bare(type.of)}`;
  if (type.kind === 'map') return `[string]${bare(type.of)}`;
  return type.kind;
}
