/** Platforms of images: choosing one image of several. */
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

/** Names as in GOOS and GOARCH. Source: OCI image-spec, image-index.md. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
}

/** Architectures whose names in Go differ from those in Node.js. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  mipsel: 'mipsle',
};

/** The platform of this machine. */
export const ownPlatform = (arch: string = process.arch): Platform => {
  return { os: 'linux', architecture: ARCHITECTURES[arch] ?? arch };
};

/** Parses OS/ARCH[/VARIANT]. Throws ErrnoError EINVAL. */
export function parsePlatform(text: ByteString): Platform {
  const [os = '', architecture = '', variant, ...more] = text.split('/');
  if (os === '' || architecture === '' || variant === '' || more.length > 0)
    throw new ErrnoError(EINVAL, `--platform=${printable(text)}: not OS/ARCH or OS/ARCH/VARIANT`);
  return { os, architecture, variant };
}

export const platformText = ({ os, architecture, variant }: Platform): string =>
  [os, architecture, ...(variant === undefined ? [] : [variant])].join('/');

/** Variants that a machine of the first one can run, the best first. */
const RUNS: Readonly<Record<string, readonly string[]>> = {
  'arm/v8': ['v8', 'v7', 'v6', 'v5'],
  'arm/v7': ['v7', 'v6', 'v5'],
  'arm/v6': ['v6', 'v5'],
  'arm/': ['v7', 'v6', 'v5'],
  'arm64/': ['v8'],
  'arm64/v8': [''],
};

/** The first candidate for a platform, by the best variant; undefined if there is none. */
export function choosePlatform<T extends { readonly platform?: Platform | null | undefined }>(
  candidates: readonly T[],
  wanted: Platform,
): T | undefined {
  const { os, architecture, variant = '' } = wanted;
  const fitting = candidates.filter(({ platform }) => platform?.os === os && platform.architecture === architecture);
  const variants = [variant, ...(RUNS[`${architecture}/${variant}`] ?? [])];
  for (const each of variants) {
    const found = fitting.find(({ platform }) => (platform?.variant ?? '') === each);
    if (found) return found;
  }
  return variant === '' ? fitting[0] : undefined;
}
