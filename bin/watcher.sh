# shellcheck shell=sh
# The shell that unmounts beside a daemon. src/mount/watcher.ts passes this text to `sh -fc` and says which lines are read and
# answered on stdin and stdout. Descriptor 3 is the directory of the mount point, $1 the program that unmounts. With restart=on
# there are more descriptors, see src/mount/restart/handover.ts, and $2 is `later` in the shell of a daemon that was restarted:
# until it serves, the shell that has started it answers for the mount.
#
# Paths stay as mountinfo spells them, without white space, until they are used.
#
# A mount is identified by its device number and source. Another mount can have the same pair as soon as this one is gone. So the
# script unmounts without a request only if nobody serves the mount. Before that pair is known, a mount is identified by being
# new at the path. A mount that another one covers is left alone until the other is gone: unmounting its path would unmount the
# other one.
#
# Users may rename the directories above a mount point, or put a symlink there. So the shell's directory is the one that held the
# mount point before the mount was made, and it tests and unmounts the name from there. A name on which something is mounted
# cannot be renamed. For a mount that was moved or bind-mounted, the shell enters the directory in its path first, and continues
# only if that directory still has the path. umount would resolve a relative path to an absolute one, but it leaves
# /proc/self/cwd as it is.
trap '' HUP INT TERM PIPE
cd -P /proc/self/fd/3 2>/dev/null || cd /
exec 3<&-
by=$1 role=$2 device='' number='' source='' path='' before='' state='' deaths='' since='' node='' program=''

covered() (
  while read -r _ parent _ _ at _; do
    [ "$parent" = "$1" ] && [ "$at" = "$2" ] && exit 0
  done </proc/self/mountinfo
  exit 1
)
mounts() { # those that their paths lead to; with an argument, those that another mount covers
  while read -r id _ major _ at rest; do
    case $rest in *' - fuse.'*) ;; *) continue ;; esac
    if [ -n "$device" ]; then
      rest=${rest#* - fuse.* } # the source, and options without white space
      [ "$major" = "$device" ] && [ "=${rest% *}" = "$source" ] || continue
    else
      [ "$at" = "$path" ] && [ "$id" != "$before" ] || continue
    fi
    if covered "$id" "$at"; then [ -n "$1" ] || continue; else [ -z "$1" ] || continue; fi
    printf '%s\n' "$at"
  done </proc/self/mountinfo
}
decode() { # sets at to a path without its octal escapes, which %b wants with a leading zero; name to its last part
  rest=$1 text=
  while :; do
    case $rest in
      *\\*) text=$text${rest%%\\*}'\0' rest=${rest#*\\} ;;
      *) break ;;
    esac
  done
  at=$(printf '%b.' "$text$rest")
  at=${at%.}
  name=./${at##*/}
}
shown() { # the device of what is mounted at the name; nothing where that cannot be said without asking who serves it
  stat --cached=always -c %d "$name" 2>/dev/null
}
enter() { # goes to the directory of a path; fails where the path leads to another one
  decode "$1"
  [ -z "$number" ] || [ "$(shown)" != "$number" ] || return 0
  above=${at%/*}
  cd -P "${above:-/}" 2>/dev/null || return 1
  [ "$(readlink /proc/self/cwd; echo .)" = "${above:-/}
." ] || return 1
  is=$(shown)
  [ -z "$is" ] || [ -z "$number" ] || [ "$is" = "$number" ]
}
dead() { # whether nobody serves what is mounted at the name: ENOTCONN, for which statfs(2) alone is sure to ask
  case $(LC_ALL=C stat -f "$name" 2>&1) in *' not connected') return 0 ;; *) return 1 ;; esac
}
detach() { # -l, or nothing
  case $by in
    mount)
      said=$(LC_ALL=C umount -c -i $1 "/proc/self/cwd/$name" 2>&1) && return
      case $said in *nrecognized*|*nvalid\ option*) LC_ALL=C umount $1 "/proc/self/cwd/$name" && return ;; esac # busybox
      printf '%s\n' "$said"
      return 1
      ;;
    *) LC_ALL=C fusermount3 -u ${1:+-z} "$name" 2>&1 ;;
  esac
}
removed() ( # whether a dead mount could be unmounted from a path
  enter "$1" && dead && detach -l
)
requested() ( # where it was made, or else the last place
  last=
  for place in $(mounts); do
    last=$place
    [ "$place" != "$path" ] || break
  done
  if [ -z "$device" ] || [ -z "$last" ]; then
    echo not mounted
  elif ! enter "$last"; then
    echo its directory was moved
  elif [ "$2" = dead ] && ! dead; then
    echo served
  elif said=$(detach "$1"); then
    echo unmounted
  else
    case $said in *busy*) echo busy ;; *) echo $said ;; esac
  fi
)
decoded() { # a path without its octal escapes
  decode "$1"
  printf '%s.' "$at"
}
another() { # has another daemon serve; fails if that cannot be done
  while [ -n "$deaths" ]; do
    [ $(($(date +%s) - since)) -lt 2 ] || deaths=0
    deaths=$((deaths + 1)) since=$(date +%s)
    [ "$deaths" -le 5 ] || return 1
    answer=$("$node" "$program" --called lowerdata --resume "$deaths" </dev/null 7>&1 >/dev/null &)
    [ "$answer" != 0 ] || return 0
    sleep 0.2
  done
  return 1
}
forget() { [ -z "$state" ] || rm -f "$state" "${state%.json}.sock"; }
while read -r word one two three four five; do
  case $word in
    mounting) [ -n "$path" ] || path=$one before=$two ;;
    mounted) [ -n "$device" ] || device=$one number=$two source=$three by=$four state=$five ;;
    look) decode "$path"; [ -d "$name" ]; echo seen ;;
    unmount)
      requested "$one" "$two"
      [ -n "$(mounts)$(mounts covered)" ] || cd / # users of what is detached do not keep the directory busy
      ;;
    restart)
      deaths=$one since=$(date +%s) role=first
      node=$(decoded "$two") program=$(decoded "$three")
      node=${node%.} program=${program%.}
      echo 0 >&7
      exec 7<&-
      ;;
    replaced) exit 0 ;;
    gone) forget; exit 0 ;;
  esac
done
[ "$role" = first ] || exit 0
if another; then
  forget
  exit 0
fi
exec 4<&- # the connection ends, and nobody waits for an answer any more
[ -n "$path" ] || exit 0
tries=100 absent=3
[ "$by" = mount ] || [ -n "$device" ] || absent=20 # fusermount3 may not have mounted yet
while [ "$tries" -gt 0 ] && [ "$absent" -gt 0 ]; do # a daemon may take a while to die, and one look may miss what moves
  found=$(mounts) failed=
  for place in $found; do removed "$place" >/dev/null || failed=1; done
  if [ -z "$failed" ] && [ -n "$device" ] && [ -n "$(mounts covered)" ]; then
    forget
    state=
    sleep 5 # until it is seen again, however long that takes
    continue
  elif [ -z "$found" ]; then
    absent=$((absent - 1))
  elif [ -z "$failed" ]; then
    break # never looks again: another mount may have the number now
  fi
  tries=$((tries - 1))
  sleep 0.1
done
forget
