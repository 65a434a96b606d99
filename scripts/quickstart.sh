#!/usr/bin/env bash
# A demonstration on real input: `npm run quickstart`. Installs and builds missing parts, makes a composefs image and its objects
# from the TypeScript compiler, mounts it, runs the compiler from the mount, and shows how a changed object is refused.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
scripts/setup.sh
lowerdata() { bin/lowerdata "$@"; }
change_object() {
  local object
  object=$(find "$work/objects" -type f -size +1M | head -n 1)
  chmod u+w "$object" && printf 'x' >>"$object"
}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

work=$(mktemp -d)
mkdir "$work/mnt"
cleanup() { mountpoint -q "$work/mnt" && lowerdata umount "$work/mnt"; rm -rf "$work"; }
trap cleanup EXIT

say "1. An image of node_modules/typescript: the metadata in one file, the data in objects named by digest"
lowerdata mkfs --digest-store="$work/objects" --print-digest node_modules/typescript "$work/image.cfs"
du -sh "$work/image.cfs" "$work/objects" | sed "s#$work/##"

say "2. Mounted"
if ! lowerdata mount "$work/image.cfs::$work/objects" "$work/mnt"; then
  say "3. Without a mount: the same tree, and an object that changes"
  lowerdata compare node_modules/typescript "$work/image.cfs::$work/objects" && echo "no difference"
  change_object
  lowerdata fsck "$work/image.cfs::$work/objects" | sed "s#$work/##" || true
  say "What needs a mount was skipped, for the reason above. \`bin/lowerdata doctor\` says what would change that."
  exit 0
fi
findmnt -no FSTYPE,OPTIONS "$work/mnt"
ls -l "$work/mnt"

say "3. The same tree, and a program that runs from it"
diff -r "$work/mnt" node_modules/typescript && echo "no difference in $(find "$work/mnt" -type f | wc -l) files"
printf 'const answer: number = "forty-two";\n' >"$work/wrong.ts"
node "$work/mnt/bin/tsc" --noEmit "$work/wrong.ts" | sed "s#.*wrong#wrong#" || true

say "4. Every object was checked when it was opened; one that changes afterwards is refused"
lowerdata umount "$work/mnt"
change_object
lowerdata mount "$work/image.cfs::$work/objects" "$work/mnt"
find "$work/mnt" -type f -size +1M -exec cat {} + 2>&1 >/dev/null | sed "s#$work/##" || true

say "5. How fast names are found: the whole tree, just mounted, and again from the kernel's caches"
lowerdata umount "$work/mnt"
lowerdata mount "$work/image.cfs::$work/objects" "$work/mnt"
for pass in first again; do
  begin=$(date +%s%N)
  objects=$(find "$work/mnt" -printf '%s\n' | wc -l)
  echo "$pass: $objects objects in $((($(date +%s%N) - begin) / 1000000)) ms"
done

say "Unmounted. Try: bin/lowerdata --help"
