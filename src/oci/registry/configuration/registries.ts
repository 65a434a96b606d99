/**
 * What registries.conf says of registries: where podman, buildah and skopeo have it, and as they read it. Sources:
 * containers-registries.conf(5), containers-registries.conf.d(5), podman(1).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { EINVAL, ErrnoError, systemError } from '../../../sys/errno.ts';
import { faultText } from '../../documents.ts';

/** The system's file and its drop-in directory; a user's are below the home directory. */
const SYSTEM = '/etc/containers';
const USER = '.config/containers';
const FILE = 'registries.conf';

/** When a mirror is asked: always, or only for names with a digest, or only for names with a tag. */
const PULLS = ['all', 'digest-only', 'tag-only'] as const;

const Flag = v.optional(v.boolean(), false);
const Location = v.pipe(
  v.string(),
  v.transform(text => text.replace(/\/+$/, '')),
  v.check(text => !/^https?:\/\//.test(text), 'is not HOST[:PORT][/PATH]'),
);
const Filled = v.pipe(
  Location,
  v.check(text => text !== '', 'is empty'),
);
const Mirror = v.object({
  location: Filled,
  insecure: Flag,
  'pull-from-mirror': v.optional(v.picklist(['', ...PULLS]), ''),
});
const Registry = v.object({
  prefix: v.optional(Location, ''),
  location: v.optional(Location, ''),
  insecure: Flag,
  blocked: Flag,
  mirror: v.optional(v.array(Mirror), []),
  'mirror-by-digest-only': Flag,
});
const Listed = v.optional(v.object({ registries: v.optional(v.array(Filled), []) }), {});
const File = v.object({
  registry: v.optional(v.array(Registry), []),
  /** The first version of the format. */
  registries: v.optional(v.object({ insecure: Listed, block: Listed })),
});

export interface MirrorRules {
  readonly location: string;
  readonly insecure: boolean;
  readonly pulls: (typeof PULLS)[number];
}

/** What holds for the names that begin with a prefix. */
export interface RegistryRules {
  /** The file that says it. */
  readonly from: string;
  /** HOST[:PORT][/PATH], or `*.DOMAIN`. */
  readonly prefix: string;
  /** What stands in place of the prefix; '' beside a `*.DOMAIN` for the name as it is. */
  readonly location: string;
  readonly insecure: boolean;
  readonly blocked: boolean;
  readonly mirrors: readonly MirrorRules[];
}

/** Reads the files, of which a later one replaces what an earlier one says of a prefix. Throws ErrnoError with the path. */
export async function readRegistriesConf(): Promise<RegistryRules[]> {
  const rules = new Map<string, RegistryRules>();
  for (const { path, text } of filesThere()) for (const each of await rulesOf(text, path)) rules.set(each.prefix, each);
  return [...rules.values()];
}

interface TextFile {
  readonly path: string;
  readonly text: string;
}

function filesThere(): TextFile[] {
  const user = join(homedir(), USER);
  const named = process.env.CONTAINERS_REGISTRIES_CONF;
  const own = named ? undefined : readIfThere(join(user, FILE));
  const main = named ? { path: named, text: readText(named) } : (own ?? readIfThere(join(SYSTEM, FILE)));
  const directories = own ? [user] : [SYSTEM, user];
  return [...(main ? [main] : []), ...directories.flatMap(directory => dropIns(join(directory, `${FILE}.d`)))];
}

/** The files of a directory in the order of their names. */
function dropIns(directory: string): TextFile[] {
  try {
    const names = readdirSync(directory, { withFileTypes: true }).filter(entry => !entry.isDirectory());
    const paths = names.map(({ name }) => join(directory, name)).filter(path => path.endsWith('.conf'));
    return paths.sort().map(path => ({ path, text: readText(path) }));
  } catch (error) {
    if (isMissing(error)) return [];
    throw systemError(error, directory);
  }
}

function readIfThere(path: string): TextFile | undefined {
  try {
    return { path, text: readFileSync(path, 'utf8') };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw systemError(error, path);
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw systemError(error, path);
  }
}

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** The rules of one file. Throws ErrnoError EINVAL with the path. */
async function rulesOf(text: string, from: string): Promise<RegistryRules[]> {
  const refuse = (why: string): never => {
    throw new ErrnoError(EINVAL, `${from}: ${why}`);
  };
  const { parse, TomlError } = await import('smol-toml');
  let tables: unknown;
  try {
    tables = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    return refuse(`line ${error.line}: ${error.message.split('\n')[0]}`);
  }
  const { success, output, issues } = v.safeParse(File, tables);
  if (!success) return refuse(faultText(issues[0]));
  const { registry, registries } = output;
  if (registries && registry.length > 0) refuse('has both versions of the format, [registries] and [[registry]]');
  return registries ? ofVersion1(registries, from) : registry.map(each => ofRegistry(each, from, refuse));
}

function ofRegistry(
  table: v.InferOutput<typeof Registry>,
  from: string,
  refuse: (why: string) => never,
): RegistryRules {
  const { insecure, blocked, mirror, 'mirror-by-digest-only': byDigest } = table;
  const prefix = table.prefix || table.location;
  if (prefix === '') refuse('a [[registry]] without prefix and location');
  const location = table.location || (prefix.startsWith('*.') ? '' : prefix);
  const mirrors = mirror.map(({ 'pull-from-mirror': pulls, ...each }): MirrorRules => {
    if (pulls !== '' && byDigest) refuse(`${prefix}: mirror-by-digest-only and pull-from-mirror at once`);
    return { ...each, pulls: byDigest ? 'digest-only' : pulls || 'all' };
  });
  return { from, prefix, location, insecure, blocked, mirrors };
}

function ofVersion1(
  { insecure, block }: { insecure: v.InferOutput<typeof Listed>; block: v.InferOutput<typeof Listed> },
  from: string,
): RegistryRules[] {
  const names = new Set([...insecure.registries, ...block.registries]);
  return [...names].map(name => ({
    ...{ from, prefix: name, location: name, mirrors: [] },
    insecure: insecure.registries.includes(name),
    blocked: block.registries.includes(name),
  }));
}
