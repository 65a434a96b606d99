/** Why a stack can have no index, as the kernel decides: then `index=on` counts as off. */
import type { Layer } from '../../layers/layer.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { CAP_DAC_READ_SEARCH, hasCapability, inInitialUserNamespace } from '../../sys/security/privileges.ts';

/** What is missing for an index. */
export interface IndexObstacle {
  /** The layer that lacks it; absent if this process does. */
  readonly layer?: string;
  readonly why: string;
}

/**
 * Looks for what an index needs: file handles of all layers that lead back to their objects.
 * @param lowers all layers below the upper one, the data-only ones last
 * Source: kernel fs/overlayfs/util.c, ovl_can_decode_fh; super.c, ovl_lower_uuid_ok.
 */
export function indexObstacle(upper: Layer, lowers: readonly Layer[]): IndexObstacle | undefined {
  if (!hasCapability(CAP_DAC_READ_SEARCH) || !inInitialUserNamespace())
    return { why: 'to open files by handle takes CAP_DAC_READ_SEARCH outside of user namespaces' };
  const without = [upper, ...lowers].find(layer => !opensHandles(layer));
  if (without) return { layer: without.path, why: 'its filesystem has no file handles that can be opened' };
  const twin = withUuidOfAnother(upper, lowers);
  return (
    twin && { layer: twin.path, why: 'its filesystem has the same uuid as that of another layer, or both have none' }
  );
}

function opensHandles(layer: Layer): boolean {
  if (layer.kind === 'image') return true;
  const origin = layer.originOf?.(layer.root);
  return origin !== undefined && layer.inodeOf?.(origin) !== undefined;
}

/** The kernel does not compare a layer that is on the filesystem of the upper one with those above it. */
function withUuidOfAnother(upper: Layer, lowers: readonly Layer[]): Layer | undefined {
  const owners = new Map<ByteString | undefined, string>();
  return lowers.find(({ uuid, filesystem }) => {
    const owner = owners.get(uuid) ?? filesystem;
    owners.set(uuid, owner);
    return owner !== filesystem && filesystem !== upper.filesystem;
  });
}
