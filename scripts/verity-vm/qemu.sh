#!/usr/bin/env bash
# Boots $1/packages with $1/initramfs and the disks $2... (raw files, /dev/vda and so on), without KVM; the console goes
# to $1/console. boot.sh and scripts/kernels/record.sh call it. LOWERDATA_VM_SECONDS limits the time.
set -euo pipefail
work=$1
shift
# cx16=off: Linux allocates memory with cmpxchg16b, after which QEMU 7.2 leaves garbage in EFLAGS, so most boots would crash.
# panic=-1 and -no-reboot: a kernel panic ends the virtual machine.
machine=(-accel 'tcg,thread=multi' -smp 2 -cpu 'max,cx16=off' -m 1024 -nodefaults -display none -no-reboot)
for disk in "$@"; do machine+=(-drive "file=$disk,format=raw,if=virtio,cache=unsafe"); done
timeout "${LOWERDATA_VM_SECONDS:-400}" qemu-system-x86_64 "${machine[@]}" -kernel "$work"/packages/boot/vmlinuz-* \
  -initrd "$work/initramfs" -append "console=ttyS0 quiet loglevel=3 panic=-1" -serial "file:$work/console" || true
