#!/usr/bin/env bash
# Builds the addon in native-shims/. Run it after a checkout and after a change there. `npm run build` runs it, and so does npm
# when it installs the package; in that case node-gyp is the one that npm brings.
# Prints nothing on success, and the log on failure. Fast when nothing changed.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../native-shims"

addon=build/Release/lowerdata.node
if [[ -f $addon && -z $(find . -maxdepth 1 -type f -newer "$addon") ]]; then
  exit 0
fi

options=()
node_root=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
if [[ -f $node_root/include/node/node_api.h ]]; then
  options+=("--nodedir=$node_root") # otherwise node-gyp downloads the headers
fi

mkdir -p build
log=build/log
gyp=../node_modules/.bin/node-gyp
[[ -x $gyp ]] || gyp=node-gyp
if ! "$gyp" configure build "${options[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
touch "$addon" # even if make found nothing to link
