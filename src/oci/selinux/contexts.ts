/**
 * Which label a policy of SELinux has for a path: the files `file_contexts` and those beside it, read as composefs-rs reads them, so
 * that both make the same image. Source: selabel_file(5); composefs-rs, crates/composefs-boot/src/selabel.rs.
 *
 * ```
 * # of the expressions that match a path and its type, the last one counts
 * /usr/bin(/.*)?     --    system_u:object_r:bin_t:s0
 * /usr/share/secret(/.*)?  <<none>>
 * ```
 */
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { EINVAL, EOVERFLOW, ErrnoError, ETIMEDOUT } from '../../sys/errno.ts';

/** A file of the policy. */
export interface PolicyFile {
  /** The path in the image, for messages. */
  readonly shown: string;
  readonly text: string;
}

/** The letter of a type: one of -bcdlps. Source: selabel_file(5). */
export type TypeLetter = ByteString;

/** Which parts of a path are other names for other parts. Of two for one path, the later one counts. */
export type Aliases = ReadonlyMap<ByteString, ByteString>;

/** Where white space separates. Source: Unicode, White_Space. */
const SPACE = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
const TYPE = /^-[-bcdlps]$/;
const NO_LABEL = '<<none>>';
/** All expressions together, in characters; one that is to be repeated counts as often. Real policies have 300,000. */
const EXPRESSIONS_MAX = 1_000_000;
/** How long the search for labels may take; real policies need a second for 100,000 files. */
const SEARCH_MS_MAX = 300_000;

/** The labels that a policy has for paths. */
export class FileContexts {
  readonly #expressions: Expressions;
  readonly #labels: readonly ByteString[];
  #searchedMs = 0;

  private constructor(expressions: Expressions, labels: readonly ByteString[]) {
    this.#expressions = expressions;
    this.#labels = labels;
  }

  /** Reads files with expressions, in the order in which they count. Throws ErrnoError with the file and the line. */
  static async read(files: readonly PolicyFile[]): Promise<FileContexts> {
    const { RE2JS, RE2Set } = await import('re2js'); // as in composefs-rs, time is linear whatever the expressions are
    const set = new RE2Set(RE2Set.ANCHOR_BOTH, RE2JS.DOTALL);
    const labels: ByteString[] = [];
    let length = 0;
    for (const file of files)
      for (const { where, fields } of linesOf(file)) {
        const { expression, label } = specOf(fields, where);
        length += expression.length * repetitionsIn(expression);
        if (length > EXPRESSIONS_MAX)
          throw new ErrnoError(EOVERFLOW, `${where}: the expressions are longer than ${EXPRESSIONS_MAX} characters`);
        try {
          set.add(expression);
        } catch (error) {
          throw new ErrnoError(EINVAL, `${where}: ${(error as Error).message}`);
        }
        labels.push(label);
      }
    set.compile();
    return new FileContexts(set, labels);
  }

  /** The label of a path; undefined if it has none. Throws ErrnoError ETIMEDOUT if the policy is one that takes too long. */
  labelOf(path: ByteString, type: TypeLetter): ByteString | undefined {
    const begun = performance.now();
    const found = this.#expressions.match(`${path}${type}`);
    this.#searchedMs += performance.now() - begun;
    if (this.#searchedMs > SEARCH_MS_MAX)
      throw new ErrnoError(ETIMEDOUT, `the labels of its policy are not found within ${SEARCH_MS_MAX / 1000} seconds`);
    const label = found.length > 0 ? this.#labels[Math.max(...found)] : undefined;
    return label === NO_LABEL ? undefined : label;
  }
}

/** Expressions that are looked for together. */
interface Expressions {
  /** @returns the numbers of those that match the whole text */
  match(text: ByteString): readonly number[];
}

/** An expression for a path and the letter of its type, and the label. */
function specOf([path = '', ...rest]: readonly string[], where: string): { expression: ByteString; label: ByteString } {
  const type = rest[0]?.startsWith('-') ? rest.shift() : undefined;
  if (type !== undefined && !TYPE.test(type)) throw new ErrnoError(EINVAL, `${where}: ${type} is not a type of file`);
  const [label] = rest;
  if (label === undefined || rest.length > 1)
    throw new ErrnoError(EINVAL, `${where}: not an expression, a type (which may be left out) and a label`);
  const expression = `^(${path})${type?.slice(1) ?? '.'}$`;
  return { expression: byteStringFromText(expression), label: byteStringFromText(label) };
}

/** How often an expression's largest part is repeated at most: the product of its counts. */
function repetitionsIn(expression: ByteString): number {
  const counts = [...expression.matchAll(/\{(\d*),?(\d*)\}/g)];
  return counts.reduce((product, [, from, to]) => product * Math.max(1, Number(from), Number(to)), 1);
}

/** Reads files with two paths in each line: in place of the first one, the second one counts. Throws ErrnoError with the line. */
export function readAliases(files: readonly PolicyFile[]): Aliases {
  const aliases = new Map<ByteString, ByteString>();
  for (const file of files)
    for (const { where, fields } of linesOf(file)) {
      const [alias = '', original, ...rest] = fields;
      if (original === undefined || rest.length > 0) throw new ErrnoError(EINVAL, `${where}: not two paths`);
      aliases.set(byteStringFromText(alias), byteStringFromText(original));
    }
  return aliases;
}

/** The lines of a file that are neither empty nor comments, split at white space. */
function* linesOf({ shown, text }: PolicyFile): Generator<{ where: string; fields: string[] }> {
  for (const [i, line] of text.split('\n').entries()) {
    const fields = line.split(SPACE).filter(field => field !== '');
    if (fields.length > 0 && !fields[0]?.startsWith('#')) yield { where: `${shown}, line ${i + 1}`, fields };
  }
}
