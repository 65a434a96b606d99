#!/usr/bin/env bash
# Compiles the addon into native-shims/build and TypeScript into dist/, and writes the manual pages: `npm run build`.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
scripts/build-native.sh
node_modules/.bin/tsc
node dist/scripts/bundle.js
NODE_OPTIONS='' node dist/scripts/compile.js
node dist/scripts/man.js
chmod +x dist/src/cli/main.js
