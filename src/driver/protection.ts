/** How a mount is protected against changed images and objects, and why not better. */
import type { StackOptions } from '../overlay/options/rules.ts';
import type { DriverOptions } from './options.ts';
import { LIFTS, type Restriction } from './restrictions.ts';

export interface Protection {
  /** digest: the image matches the option `digest`; top: the top layer does, but there are other layers below it. */
  readonly metadata: 'digest' | 'top' | 'none';
  /** open: data with a digest is checked when it is opened; read: each block of it is also checked when it is read. */
  readonly data: 'none' | 'open' | 'read';
  /** Whether metacopy files without a digest are refused. */
  readonly required: boolean;
  /** true if the kernel reads data itself; otherwise the reason why it does not. */
  readonly passthrough: true | string;
  /** Mount flags that the layers impose; absent if there are none. */
  readonly restrictions?: readonly Restriction[];
}

/**
 * @param passthrough true if the kernel reads data itself, otherwise the reason why it does not
 * @param restrictions those that the mount was made with
 */
export function protectionOf(
  stack: StackOptions,
  driver: DriverOptions,
  passthrough: true | string,
  restrictions: readonly Restriction[] = [],
): Protection {
  const onRead = driver.verify === 'read' || (driver.verify === undefined && passthrough !== true);
  return {
    metadata: metadataOf(stack),
    data: stack.verity === 'off' && stack.redirects !== 'strict' ? 'none' : onRead ? 'read' : 'open',
    required: stack.verity === 'require' || stack.redirects === 'strict',
    passthrough,
    ...(restrictions.length > 0 && { restrictions }),
  };
}

/** Data-only layers are not counted: their metadata is not used. */
function metadataOf({ imageDigest, layers }: StackOptions): Protection['metadata'] {
  if (imageDigest === undefined) return 'none';
  return layers.filter(({ dataOnly }) => !dataOnly).length === 1 ? 'digest' : 'top';
}

const METADATA = {
  digest: 'metadata is checked by its digest',
  top: 'metadata of the top layer is checked by its digest, that of the others is not',
  none: 'metadata is not checked (digest=HEX does)',
} as const;

/** Describes the protection in one line for people. */
export function protectionText(protection: Protection): string {
  const { restrictions = [] } = protection;
  return [checksText(protection), ...restrictions.map(restrictionText)].join('; ');
}

const restrictionText = ({ flag, why }: Restriction): string =>
  `mounted ${flag}: ${why} (option ${LIFTS[flag]} lifts it)`;

function checksText({ metadata, data, required, passthrough }: Protection): string {
  const names = METADATA[metadata];
  const scope = required ? 'data of metacopy files' : 'data that has a digest';
  const reads = passthrough === true ? 'the kernel reads it itself; verify=read checks each read' : 'verify=open';
  switch (data) {
    case 'none':
      return `${names}; data is not checked (verity=off), but where its origin leads to it`;
    case 'open':
      return `${names}; ${scope} is checked when it is opened, not again unless it has fs-verity (${reads})`;
    case 'read':
      return `${names}; ${scope} is checked whenever it is read (${passthrough === true ? 'verify=read' : passthrough})`;
  }
}
