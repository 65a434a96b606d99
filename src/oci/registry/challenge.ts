/** The header WWW-Authenticate, by which a server says how to be asked. Source: RFC 9110, 11.6.1. */

export interface Challenge {
  /** In small letters: `basic`, `bearer`. */
  readonly scheme: string;
  /** By names in small letters. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** A header that is longer is of no registry. */
const LENGTH_MAX = 8192;
const TOKEN = "[\\w!#$%&'*+.^`|~-]+";
/** A parameter, `name=value` or `name="value"`; or a scheme, which is a word that no `=` follows. */
const PIECE = new RegExp(
  `[\\s,]*(?:(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))(?=\\s*(?:,|$))|(${TOKEN})(?=\\s|,|$))`,
  'y',
);

/** The challenges of a header, up to the first piece that is malformed. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  const text = header.slice(0, LENGTH_MAX);
  PIECE.lastIndex = 0;
  for (let piece = PIECE.exec(text); piece; piece = PIECE.exec(text)) {
    const [, name, quoted, plain, scheme] = piece;
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    else {
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
      challenges.at(-1)?.parameters.set((name as string).toLowerCase(), value as string);
    }
  }
  return challenges;
}
