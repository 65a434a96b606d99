#!/bin/sh
# Runs after `npm install`. Compiles the addon unless an existing one fits this machine, and makes the V8 code cache of the
# command for this Node.js. In a checkout the command does not exist yet, so that step is left to the build.
CDPATH='' cd -- "${0%/*}/.." || exit
unset NODE_OPTIONS # V8 accepts a code cache only with the options it was made with
node -e "require('node-gyp-build')('native-shims')" 2>/dev/null || scripts/build-native.sh || exit
[ ! -f dist/scripts/compile.js ] || node dist/scripts/compile.js 2>/dev/null || echo 'lowerdata: V8 compiles it at every start' >&2
