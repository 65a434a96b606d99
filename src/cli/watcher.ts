/**
 * A shell that outlives the daemon: when the daemon is gone without a word, it takes the dead mount away.
 * It holds one end of a pipe and nothing else, in a session of its own, and weighs about a megabyte.
 */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import type { Mounter } from '../fuse/mount.ts';
import { encodePath, mountAt, readMounts } from '../fuse/mountinfo.ts';
import { type Name, nameBytes, nameFromText } from '../sys/bytes.ts';

/**
 * Paths stay as mountinfo spells them, without white space, until they are used. A mount is found by its device number,
 * which another mount can have at once when this one is gone, so that none is taken away while somebody serves it; before that
 * number is known, by being new at the path.
 * A mount that another one covers is left alone: unmounting its path would unmount the other one.
 */
const SCRIPT = `
trap '' HUP INT TERM
by=$1 device= path= before= state=
while read -r word one two; do
  case $word in
    mounting) path=$one before=$two ;;
    mounted) device=$one state=$two ;;
    gone) exit 0 ;;
  esac
done
[ -n "$path" ] || exit 0

covered() (
  while read -r _ parent _ _ at _; do
    [ "$parent" = "$1" ] && [ "$at" = "$2" ] && exit 0
  done </proc/self/mountinfo
  exit 1
)
mounts() {
  while read -r id _ number _ at rest; do
    case $rest in *' - fuse.'*) ;; *) continue ;; esac
    if [ -n "$device" ]; then
      [ "$number" = "$device" ] || continue
    else
      [ "$at" = "$path" ] && [ "$id" != "$before" ] || continue
    fi
    covered "$id" "$at" || printf '%s\\n' "$at"
  done </proc/self/mountinfo
}
decode() { # sets at to a path without its octal escapes, which %b wants with a leading zero
  rest=$1 text=
  while :; do
    case $rest in
      *\\\\*) text=$text\${rest%%\\\\*}'\\0' rest=\${rest#*\\\\} ;;
      *) break ;;
    esac
  done
  at=$(printf '%b.' "$text$rest")
  at=\${at%.}
}
dead() ( # whether nobody serves what is mounted at a path: ENOTCONN, for which statfs(2) alone is sure to ask
  decode "$1"
  case $(LC_ALL=C stat -f "$at" 2>&1) in *' not connected') exit 0 ;; *) exit 1 ;; esac
)
unmount() (
  decode "$1"
  case $by in
    mount) umount -l "$at" ;;
    *) fusermount3 -u -z "$at" ;;
  esac
)
tries=100 absent=3
[ "$by" = mount ] || [ -n "$device" ] || absent=20 # fusermount3 may not have mounted yet
while [ "$tries" -gt 0 ] && [ "$absent" -gt 0 ]; do # a daemon may take a while to die, and one look may miss what moves
  found=$(mounts) failed=
  for place in $found; do dead "$place" && unmount "$place" || failed=1; done
  if [ -z "$found" ]; then
    absent=$((absent - 1))
  elif [ -z "$failed" ]; then
    break # never looks again: another mount may have the number now
  fi
  tries=$((tries - 1))
  sleep 0.1
done
[ -z "$state" ] || rm -f "$state" "\${state%.json}.sock"
`;

export class Watcher {
  private readonly pipe: Writable;

  constructor(by: Mounter) {
    const shell = spawn('/bin/sh', ['-fc', SCRIPT, 'lowerdata-watcher', by], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    shell.unref();
    shell.on('error', () => {}); // no shell: the mount works, only its end after a kill is not cared for
    this.pipe = shell.stdin;
    this.pipe.on('error', () => {});
    (this.pipe as { unref?: () => void }).unref?.();
  }

  /** To be said before the mount is made. */
  mounting(path: Name): void {
    const before = mountAt(readMounts(), path)?.id ?? 0;
    this.say(`mounting ${encodePath(path)} ${before}`);
  }

  /** @param stateFile removed with the mount, '' for none */
  mounted(device: string, stateFile: string): void {
    this.say(`mounted ${device} ${nameFromText(stateFile)}`);
  }

  /** The mount is gone, or was never made. */
  gone(): void {
    this.say('gone');
  }

  private say(line: string): void {
    this.pipe.write(nameBytes(`${line}\n`));
  }
}
