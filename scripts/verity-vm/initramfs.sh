# Functions that put the parts of an initramfs together; pack.sh and scripts/kernels/record.sh source it, with `packages`, the
# folder of unpacked Debian packages, and `root`, the tree to be packed.
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages and root are the caller's
busybox=$(find "$packages" -path '*bin/busybox' -type f)
mkdir -p "$root"/{bin,dev,modules,proc,sys,tmp}
cp "$busybox" "$root/bin/busybox"

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

# add_program PATH: copies a program or library and the libraries that it needs, each to the path that it has on this machine.
add_program() {
  local libraries
  libraries=$(ldd "$1" | grep -o '/[^ ]*' || true)
  # shellcheck disable=SC2086 # one word per library
  cp --parents --dereference "$1" $libraries "$root"
}

# pack_initramfs FILE: not compressed, because it boots faster that way.
pack_initramfs() {
  (cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$1"
}
