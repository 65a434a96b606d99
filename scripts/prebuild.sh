#!/usr/bin/env bash
# Compiles the addon for the package, so that users need neither a compiler nor install scripts. npm runs it before packing. Makes
# native-shims/prebuilds for x64 and arm64, as far as compilers are installed (Debian: gcc-aarch64-linux-gnu). Checks that the
# addon needs no newer C library than Node.js 20 itself, which is glibc 2.28.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
glibc_max=2.28
node_root=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf native-shims/prebuilds

newest_glibc() { # prints the newest glibc version that a file requires
  objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -V | tail -n 1
}

build() { # NODE_ARCHITECTURE TRIPLE
  local arch=$1 triple=$2 addon="$work/$1/build/Release/lowerdata.node" out="native-shims/prebuilds/linux-$1" newest
  if ! command -v "$triple-gcc" >/dev/null; then
    echo "prebuild.sh: linux-$arch is left out: $triple-gcc is not installed" >&2
    return
  fi
  mkdir "$work/$arch"
  cp native-shims/*.[ch] native-shims/binding.gyp "$work/$arch"
  CC="$triple-gcc" CXX="$triple-g++" LINK="$triple-gcc" AR="$triple-ar" node_modules/.bin/node-gyp rebuild \
    --directory="$work/$arch" --arch="$arch" --nodedir="$node_root" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
  newest=$(newest_glibc "$addon")
  if [ "$(printf '%s\n' "$newest" "$glibc_max" | sort -V | tail -n 1)" != "$glibc_max" ]; then
    echo "prebuild.sh: the addon for $arch needs glibc $newest; $glibc_max is the limit" >&2
    return 1
  fi
  mkdir -p "$out"
  "$triple-strip" --strip-unneeded -o "$out/node.napi.glibc.node" "$addon"
}

build x64 x86_64-linux-gnu
build arm64 aarch64-linux-gnu
[ -d native-shims/prebuilds ] || { echo 'prebuild.sh: no compiler is installed' >&2; exit 1; }
