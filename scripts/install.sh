#!/bin/sh
# After `npm install`: compiles the addon where none that is there fits this machine, and has V8 compile the command for this
# Node.js. A checkout, which has no command yet, is built later.
CDPATH='' cd -- "${0%/*}/.." || exit
unset NODE_OPTIONS # V8 takes what it compiled with the same options alone
node -e "require('node-gyp-build')('native-shims')" 2>/dev/null || scripts/build-native.sh || exit
[ ! -f dist/scripts/compile.js ] || node dist/scripts/compile.js 2>/dev/null || echo 'lowerdata: V8 compiles it at every start' >&2
