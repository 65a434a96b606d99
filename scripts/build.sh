#!/usr/bin/env bash
# Compiles everything, the addon and TypeScript, into native-shims/build and dist/, and writes the manual: `npm run build`.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
scripts/build-native.sh
node_modules/.bin/tsc
node dist/scripts/bundle.js
NODE_OPTIONS='' node dist/scripts/compile.js
node dist/scripts/man.js
chmod +x dist/src/cli/main.js
# tsc rewrites the endings of imports in programs alone; in declarations, `.ts` is what the package does not have.
find dist/src -name '*.d.ts' -exec sed -i -E "s/(from |import\()'(\.[^']*)\.ts'/\1'\2.js'/g" {} +
