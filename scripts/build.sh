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
# tsc rewrites the endings of imports only in programs. Declarations keep `.ts`, but the package has no such files.
find dist/src -name '*.d.ts' -exec sed -i -E "s/(from |import\()'(\.[^']*)\.ts'/\1'\2.js'/g" {} +
