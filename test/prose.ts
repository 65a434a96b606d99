/** Keeps phrases that read badly out of the sources, their messages and the documentation. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from './fixtures/mounts/mounted.ts';

/** Each phrase, and what to write in its place. */
const PHRASES: readonly (readonly [phrase: RegExp, instead: string])[] = [
  [/\bcan not\b/i, 'cannot'],
  [/\bwhoever\b/i, 'a noun: the process, the user, an attacker'],
  [/\bwhat it is that\b/i, 'a noun'],
  [/\bwhat is no\b/i, 'a noun: a file that is not a directory'],
  [/\b(?:is|are|was|were) told\b/i, 'reported, shown, or known'],
  [/\btakes note\b/i, 'records'],
  [/\b(?:can|cannot) be had\b/i, 'a verb that says how'],
  [/\bfor ever\b/i, 'forever'],
];

const below = (folder: string): string[] =>
  readdirSync(join(packageFolder, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && /\.(?:ts|c|h|sh|md)$|^[a-z]+$/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
    .filter(path => !path.includes('/native-shims/build/'));
const files = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'].map(name => join(packageFolder, name)),
  ...['src', 'bin', 'native-shims', 'docs'].flatMap(below),
];

/** The phrases in a text, each with the one to write instead. Line breaks and the marks of comments count as one space. */
function found(text: string): string[] {
  const running = text.replace(/\s*\n\s*(?:\*|\/\/|#)?\s*/g, ' ');
  return PHRASES.flatMap(([phrase, instead]) => {
    const match = phrase.exec(running)?.[0];
    return match === undefined ? [] : [`"${match}": write ${instead}`];
  });
}

t.ok(files.length > 200, `${files.length} files`);
t.strictSame(
  files.flatMap(path =>
    found(readFileSync(path, 'utf8')).map(words => `${path.slice(packageFolder.length + 1)}: ${words}`),
  ),
  [],
  'no file has one of the phrases',
);
t.strictSame(
  [' * it can\n * not be read', "'the root is told'", 'a cannon'].map(text => found(text).length),
  [1, 1, 0],
  'phrases are found, also across lines of a comment',
);
t.end();
