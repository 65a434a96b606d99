#!/usr/bin/env bash
# Packs $1/initramfs for boot.sh: busybox and kernel modules from $1/packages, node and some programs of this machine with their
# libraries, and the build of this project. It is not compressed, because it boots faster that way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
packages=$1/packages
root=$1/root
busybox=$(find "$packages" -path '*bin/busybox' -type f)
mkdir -p "$root"/{bin,dev,modules,proc,sys,tmp,lowerdata}

# add_module NAME: copies a module and appends it to the load order, after the modules that it depends on. Built-in modules are
# skipped.
add_module() {
  local file needed copy=$root/modules/$1.ko
  file=$(find "$packages" -name "${1//_/[-_]}.ko*" -print -quit)
  if [ -z "$file" ] || [ -e "$copy" ]; then return; fi
  case $file in
    *.xz) "$busybox" xzcat "$file" >"$copy" ;;
    *) cp "$file" "$copy" ;;
  esac
  for needed in $(tr '\0' '\n' <"$copy" | sed -n 's/^depends=//p' | tr ',' ' '); do add_module "$needed"; done
  echo "$1" >>"$root/modules/order"
}
for module in virtio_pci virtio_blk ext4 sha512_generic fuse loop erofs overlay; do add_module "$module"; done

# add_program PATH: copies a program and its libraries, each to the path that it has on this machine.
add_program() {
  local libraries
  libraries=$(ldd "$1" | grep -o '/[^ ]*')
  # shellcheck disable=SC2086 # one word per library
  cp --parents --dereference "$1" $libraries "$root"
}
cp "$busybox" "$root/bin/busybox"
for program in debugfs fsverity setfattr; do add_program "$(command -v "$program")"; done
node=$(node -p process.execPath)
add_program "$node"
ln -s "$node" "$root/bin/node"

npm ls --omit=dev --omit=optional --all --parseable | sed "1d; s#^$PWD/##" >"$1/dependencies"
mapfile -t dependencies <"$1/dependencies"
cp -r --parents package.json bin dist/bin dist/src dist/scripts/verity-vm native-shims/binding.gyp \
  native-shims/build/Release/lowerdata.node "${dependencies[@]}" "$root/lowerdata"
install -m 755 scripts/verity-vm/init "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$1/initramfs"
