/** Owners as a mount shows them, where they are not those that the layers store. Source: fuse-overlayfs(1). */
import type { Attr } from '../sys/stat.ts';
import { mapAclIds } from '../upper/acl.ts';

/** `count` ids from `stored` on, which are shown as those from `shown` on. Ranges of a list do not overlap. */
export interface IdRange {
  readonly stored: number;
  readonly shown: number;
  readonly count: number;
}

/** How one kind of ids is shown. */
export interface IdView {
  /** undefined: every id is shown as it is stored. */
  readonly ranges?: readonly IdRange[];
  /** The id that all files show, whatever is stored. */
  readonly squashed?: number;
}

export interface OwnerOptions {
  readonly uids: IdView;
  readonly gids: IdView;
}

/** The ids that stand for those that are in no range. */
export interface OverflowIds {
  readonly uid: number;
  readonly gid: number;
}

/** Translates between the owners in the layers and those that the kernel sees. A mount that shows what is stored has none. */
export class Owners {
  /** Whether files show one owner anyway, so that an owner who cannot be stored is no error. */
  readonly areSquashed: boolean;
  private readonly uids: Ids;
  private readonly gids: Ids;
  private readonly shownUidOf = (uid: number): number => this.uids.shown(uid);
  private readonly shownGidOf = (gid: number): number => this.gids.shown(gid);
  private readonly storedUidOf = (uid: number): number => this.storedUid(uid);
  private readonly storedGidOf = (gid: number): number => this.storedGid(gid);

  constructor({ uids, gids }: OwnerOptions, overflow: OverflowIds) {
    this.areSquashed = (uids.squashed ?? gids.squashed) !== undefined;
    this.uids = new Ids(uids, overflow.uid);
    this.gids = new Ids(gids, overflow.gid);
  }

  /** Changes the owner in `attr` from the stored to the shown one. @returns `attr` */
  show(attr: Attr): Attr {
    attr.uid = this.uids.owner(attr.uid);
    attr.gid = this.gids.owner(attr.gid);
    return attr;
  }

  storedUid(uid: number): number {
    return this.uids.stored(uid);
  }

  storedGid(gid: number): number {
    return this.gids.stored(gid);
  }

  /** Changes the ids in the value of a POSIX ACL from the stored to the shown ones; ids are not squashed there. @returns `value` */
  showAcl(value: Uint8Array): Uint8Array {
    return mapAclIds(value, this.shownUidOf, this.shownGidOf);
  }

  /** A copy of the value of a POSIX ACL, with the ids to store. */
  storedAcl(value: Uint8Array): Uint8Array {
    return mapAclIds(Uint8Array.from(value), this.storedUidOf, this.storedGidOf);
  }
}

/** One kind of ids: uids or gids. */
class Ids {
  private readonly ranges: readonly IdRange[] | undefined;
  private readonly squashed: number | undefined;
  private readonly overflow: number;

  constructor({ ranges, squashed }: IdView, overflow: number) {
    this.ranges = ranges;
    this.squashed = squashed;
    this.overflow = overflow;
  }

  /** The shown owner for a stored one. */
  owner(id: number): number {
    return this.squashed ?? this.shown(id);
  }

  shown(id: number): number {
    if (this.ranges === undefined) return id;
    for (const { stored, shown, count } of this.ranges)
      if (id >= stored && id - stored < count) return shown + (id - stored);
    return this.overflow;
  }

  stored(id: number): number {
    if (this.ranges === undefined) return id;
    for (const { stored, shown, count } of this.ranges)
      if (id >= shown && id - shown < count) return stored + (id - shown);
    return this.overflow;
  }
}
