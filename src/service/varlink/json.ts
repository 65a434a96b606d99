/**
 * Reads JSON that a stranger wrote. What JSON.parse leaves open is refused: an object with the same name twice, and depth. Objects
 * have no prototype, so that `__proto__` is a name like others.
 * Source: RFC 8259.
 */
import { EPROTO, ErrnoError } from '../../sys/errno.ts';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** @returns whether a value is an object, and neither an array nor null */
export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * @param depth how many arrays and objects may be inside each other
 * Throws ErrnoError, EPROTO, where the bytes are no such document. Numbers lose digits, as in JSON.parse.
 */
export function parseJson(bytes: Uint8Array, depth: number): Json {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new ErrnoError(EPROTO, 'a message is not UTF-8');
  }
  return new Parser(text, depth).document();
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ['true', true],
  ['false', false],
  ['null', null],
]);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

class Parser {
  private readonly text: string;
  private at = 0;
  private depth: number;

  constructor(text: string, depth: number) {
    this.text = text;
    this.depth = depth;
  }

  document(): Json {
    this.skipSpace();
    const value = this.value();
    if (this.at < this.text.length) this.fail();
    return value;
  }

  /** Reads a value and the space after it. */
  private value(): Json {
    const value = this.bareValue();
    this.skipSpace();
    return value;
  }

  private bareValue(): Json {
    const first = this.text[this.at] ?? '';
    if (first === '{') return this.inside(() => this.object());
    if (first === '[') return this.inside(() => this.array());
    if (first === '"') return this.string();
    for (const [word, value] of WORDS)
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    return Number(this.match(NUMBER) || this.fail());
  }

  private inside<T>(read: () => T): T {
    if (this.depth === 0) throw new ErrnoError(EPROTO, `a message is nested too deeply, at ${this.at}`);
    this.depth--;
    this.at++;
    this.skipSpace();
    const value = read();
    this.depth++;
    return value;
  }

  private object(): JsonObject {
    const object: Record<string, Json> = Object.create(null);
    if (this.took('}')) return object;
    do {
      this.skipSpace();
      if (this.text[this.at] !== '"') this.fail();
      const name = this.string();
      if (name in object) throw new ErrnoError(EPROTO, `a message has a name twice in an object, at ${this.at}`);
      this.skipSpace();
      if (!this.took(':')) this.fail();
      this.skipSpace();
      object[name] = this.value();
    } while (this.took(','));
    return this.took('}') ? object : this.fail();
  }

  private array(): Json[] {
    const values: Json[] = [];
    if (this.took(']')) return values;
    do {
      this.skipSpace();
      values.push(this.value());
    } while (this.took(','));
    return this.took(']') ? values : this.fail();
  }

  private string(): string {
    const start = this.at;
    let isPlain = true;
    for (this.at++; ; this.at++) {
      const code = this.text.charCodeAt(this.at); // NaN past the end
      if (code === QUOTE) break;
      if (!(code >= 0x20)) this.fail();
      if (code !== BACKSLASH) continue;
      isPlain = false;
      this.at++;
    }
    this.at++;
    if (isPlain) return this.text.slice(start + 1, this.at - 1);
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string;
    } catch {
      return this.fail();
    }
  }

  private skipSpace(): void {
    this.match(SPACE);
  }

  private took(mark: string): boolean {
    if (this.text[this.at] !== mark) return false;
    this.at++;
    return true;
  }

  private match(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const [found] = pattern.exec(this.text) ?? [''];
    this.at += found.length;
    return found;
  }

  private fail(): never {
    throw new ErrnoError(EPROTO, `a message is no JSON, at ${this.at}`);
  }
}
