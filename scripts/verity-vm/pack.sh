#!/usr/bin/env bash
# Packs $1/initramfs for boot.sh: busybox and kernel modules from $1/packages, node and some programs of this machine with their
# libraries, and the build of this project.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck disable=SC2034 # initramfs.sh reads it
packages=$1/packages
root=$1/root
mkdir -p "$root/lowerdata"
. scripts/verity-vm/initramfs.sh

for module in virtio_pci virtio_blk ext4 sha512_generic fuse loop erofs overlay; do add_module "$module"; done
for program in debugfs fsverity setfattr; do add_program "$(command -v "$program")"; done
node=$(node -p process.execPath)
add_program "$node"
ln -s "$node" "$root/bin/node"

npm ls --omit=dev --omit=optional --all --parseable | sed "1d; s#^$PWD/##" >"$1/dependencies"
mapfile -t dependencies <"$1/dependencies"
cp -r --parents package.json bin dist/bin dist/src dist/scripts/verity-vm native-shims/binding.gyp \
  native-shims/build/Release/lowerdata.node "${dependencies[@]}" "$root/lowerdata"
install -m 755 scripts/verity-vm/init "$root/init"
pack_initramfs "$1/initramfs"
