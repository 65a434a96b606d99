#!/usr/bin/env bash
# Makes a checkout ready to run: installs the packages of package-lock.json if they are missing or outdated, and builds.
# quickstart.sh and test.sh call it; it is safe to run at any time.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."

for program in node npm cc make python3; do
  command -v "$program" >/dev/null || { echo "lowerdata needs $program, which is not installed" >&2; exit 1; }
done
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  # fuse-native may have nothing to compile itself with; only its tests need it
  npm ci --no-audit --no-fund --loglevel=error || npm ci --no-audit --no-fund --loglevel=error --ignore-scripts
  touch node_modules/.package-lock.json
fi
npm run --silent build
