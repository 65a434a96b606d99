/** Answers other than the one that was asked for, as errors. */
import * as v from 'valibot';
import { EACCES, EFBIG, ENOENT, EPROTO, ErrnoError } from '../../sys/errno.ts';
import { busyAnswer, statusText } from './attempts.ts';
import { type Answer, readBytes } from './connections.ts';

const ERROR_BYTES_MAX = 1 << 16;
const Errors = v.object({ errors: v.tuple([v.object({ code: v.pipe(v.string(), v.regex(/^[A-Z_]{1,40}$/)) })]) });
const MEANINGS: Readonly<Record<number, readonly [errno: number, words: string]>> = {
  401: [EACCES, 'the registry refuses access'],
  403: [EACCES, 'the registry refuses access'],
  404: [ENOENT, 'the registry has nothing by this name'],
};

/** What else an answer means to one who sends something. */
export const WRITE_MEANINGS: typeof MEANINGS = {
  ...MEANINGS,
  400: [EPROTO, 'the registry refuses what it was sent'],
  404: [ENOENT, 'the registry takes nothing by this name'],
  405: [EPROTO, 'the registry takes nothing'],
  413: [EFBIG, 'the registry takes nothing so large'],
};

/**
 * Throws what an answer means: Passing if the server is busy, otherwise ErrnoError.
 * @param hint what else there is to say if access is refused
 */
export async function refuse(answer: Answer, what: string, meanings = MEANINGS, hint = ''): Promise<never> {
  const { status, url } = answer;
  const busy = busyAnswer(status, answer.header('retry-after'));
  const code = await readBytes(answer, ERROR_BYTES_MAX, what).then(codeIn, () => undefined);
  if (busy) throw busy;
  const [errno, words] = meanings[status] ?? [EPROTO, 'an answer that is not understood'];
  throw new ErrnoError(
    errno,
    `${what}: ${url.host}: ${words} (${[statusText(status), ...(code ? [code] : [])].join(', ')})${errno === EACCES ? hint : ''}`,
  );
}

/** The code of the first error of a body. Source: distribution-spec, "Error Codes". */
function codeIn(bytes: Uint8Array): string | undefined {
  const { success, output } = v.safeParse(
    v.pipe(v.string(), v.parseJson(), Errors),
    Buffer.from(bytes).toString('utf8'),
  );
  return success ? output.errors[0].code : undefined;
}
