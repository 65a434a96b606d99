#!/usr/bin/env bash
# Boots Debian's newest kernel in QEMU and runs checks.ts there, on a kernel with real fs-verity; prints TAP on standard output.
# Run it after `npm run build` when code about fs-verity has changed; test/mounted/verity-vm.ts also runs it. Needs
# qemu-system-x86, e2fsprogs, fsverity, attr and apt-get, but neither root nor KVM. Installs nothing, and takes one to two
# minutes.
# Exit status: 0 if all checks pass, 1 if one fails or the guest died, 77 if something is missing, with the reason on standard
# error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PATH:/usr/sbin:/sbin # ordinary users need these directories for mkfs.ext4 and debugfs

[ "$(uname -m)" = x86_64 ] || { echo "the guest runs the node of this machine, which is no x86-64" >&2; exit 77; }
for program in qemu-system-x86_64 mkfs.ext4 debugfs fsverity setfattr apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 77; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/verity-vm/fetch.sh "$work"
scripts/verity-vm/pack.sh "$work"
truncate -s 64M "$work/disk"
mkfs.ext4 -q -O verity -b 4096 "$work/disk"

scripts/verity-vm/qemu.sh "$work" "$work/disk"

sed 's/\r$//; /\] reboot: Power down$/d' "$work/console" | tee "$work/log"
if ! grep -q '^1\.\.' "$work/log"; then # TAP prints the plan last
  echo "the guest died or took too long; its last lines:" >&2
  tail -n 40 "$work/log" >&2
  exit 1
fi
! grep -q '^not ok' "$work/log"
