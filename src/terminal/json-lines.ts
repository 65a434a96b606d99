/**
 * The JSON that commands print. docs/json.md says what it promises, and docs/schemas has a schema for each command. The layout of
 * documents is that of JSON.stringify(…, null, 2), line by line: the text of a large tree takes many times its memory.
 */
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';

/** The version of the shapes. A shape that breaks the promise of docs/json.md needs a new one, and so do the schemas. */
const VERSION = 1;

/** The lines of a document. */
export const documentLines = (fields: object): ByteString[] => valueLines({ version: VERSION, ...fields });

/** The lines of a document that holds one array, from the lines of its elements. */
export const listDocumentLines = (name: string, elements: Iterable<Iterable<ByteString>>): Iterable<ByteString> =>
  objectLines([
    ['version', valueLines(VERSION)],
    [name, listLines(elements)],
  ]);

/** A document of one line, newline included, as in a file of JSON Lines. */
export const jsonLine = (fields: object): ByteString =>
  byteStringFromText(`${JSON.stringify({ version: VERSION, ...fields })}\n`);

/** The lines of any value. */
export const valueLines = (value: unknown): ByteString[] =>
  byteStringFromText(JSON.stringify(value, null, 2)).split('\n');

/** The lines of an array, from the lines of its elements. */
export function* listLines(elements: Iterable<Iterable<ByteString>>): Generator<ByteString> {
  let last = '['; // held back until it is known whether a comma follows
  for (const element of elements) {
    let comma = last === '[' ? '' : ',';
    for (const line of element) {
      yield last + comma;
      last = `  ${line}`;
      comma = '';
    }
  }
  if (last === '[') return yield '[]';
  yield last;
  yield ']';
}

/** The lines of an object, from the lines of its values. */
export function* objectLines(
  fields: readonly (readonly [key: string, value: Iterable<ByteString>])[],
): Generator<ByteString> {
  yield '{';
  for (const [i, [key, value]] of fields.entries()) {
    let last = `  ${JSON.stringify(key)}:`;
    let space = ' ';
    for (const line of value) {
      if (space === '  ') yield last;
      last = space === ' ' ? `${last} ${line}` : `  ${line}`;
      space = '  ';
    }
    yield i < fields.length - 1 ? `${last},` : last;
  }
  yield '}';
}
