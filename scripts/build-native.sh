#!/usr/bin/env bash
# Builds the addon in native-shims/. Run it after a checkout and after a change there; `npm run build` does, and so does npm
# where the package is installed: there, node-gyp is the one that npm brings.
# Silent when it works, and quick when nothing changed; prints the log when it fails.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../native-shims"

addon=build/Release/lowerdata.node
if [[ -f $addon && -z $(find . -maxdepth 1 -type f -newer "$addon") ]]; then
  exit 0
fi

options=()
node_root=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
if [[ -f $node_root/include/node/node_api.h ]]; then
  options+=("--nodedir=$node_root") # else node-gyp downloads the headers
fi

mkdir -p build
log=build/log
gyp=../node_modules/.bin/node-gyp
[[ -x $gyp ]] || gyp=node-gyp
if ! "$gyp" configure build "${options[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
touch "$addon" # also when make found that nothing had to be linked again
