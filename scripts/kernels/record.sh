#!/usr/bin/env bash
# Records what the kernels of the series $@ (6.1, 6.12, ...) do with the corpus, in QEMU: test/fixtures/kernels/SERIES.json holds
# what differs from the recording of Linux 6.18. Run it when the corpus has changed, and for a kernel that is new. A series is
# that of a package linux-image-SERIES.*-cloud-amd64 of Debian. Needs qemu-system-x86, e2fsprogs, erofs-utils, python3 and
# apt-get, but neither root nor KVM, and takes three minutes for each.
# Exit status: 0, 1 if the guest died, 77 if something is missing, with the reason on standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PATH:/usr/sbin:/sbin
recordings=test/fixtures/kernels

[ $# -gt 0 ] || { echo "usage: record.sh SERIES..." >&2; exit 77; }
for program in qemu-system-x86_64 mkfs.ext4 mkfs.erofs python3 apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pack: the initramfs, with python3 and the corpus.
pack() {
  . scripts/verity-vm/initramfs.sh
  local module library stdlib
  for module in virtio_pci virtio_blk ext4 loop erofs overlay; do add_module "$module"; done
  stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  for library in "$(command -v mkfs.erofs)" "$(python3 -c 'import sys; print(sys.executable)')" "$stdlib"/lib-dynload/*.so; do
    add_program "$library"
  done
  cp --parents "$stdlib"/*.py "$root"
  for module in collections ctypes encodings importlib json re; do cp -r --parents "$stdlib/$module" "$root"; done
  ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$root/bin/python3"
  cp -r test/fixtures/oracle "$root/oracle"
  cp scripts/kernels/record.py "$root/record.py"
  install -m 755 scripts/kernels/init "$root/init"
  pack_initramfs "$1"
}

for series in "$@"; do
  # shellcheck disable=SC2034 # initramfs.sh reads packages
  home=$work/$series packages=$work/$series/packages root=$work/$series/root
  mkdir -p "$home" "$recordings"
  scripts/verity-vm/fetch.sh "$home" "$series"
  pack "$home/initramfs"
  truncate -s 2G "$home/disk"
  mkfs.ext4 -q -b 4096 "$home/disk"
  truncate -s 64M "$home/recording"
  scripts/verity-vm/qemu.sh "$home" "$home/disk" "$home/recording"
  tr -d '\0' <"$home/recording" >"$home/recording.json"
  if ! python3 -m json.tool "$home/recording.json" /dev/null; then
    echo "the guest died or took too long; its last lines:" >&2
    tail -n 40 "$home/console" >&2
    exit 1
  fi
  cp "$home/recording.json" "$recordings/$series.json"
done
