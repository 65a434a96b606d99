#!/usr/bin/env bash
# Runs all tests: `npm test`, or `npm test -- FILE...` for some files of test/. Ends with the skips and a line of counts.
# A test that needs root, /dev/fuse or a program that is missing is skipped with the reason, and counted.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
npx --no-install biome check --reporter=summary

files=("$@")
if [ ${#files[@]} -eq 0 ]; then mapfile -t files < <(find test -name '*.ts' -not -path 'test/fixtures/*' | sort); fi
compiled=()
for file in "${files[@]}"; do
  file=${file#./}
  compiled+=("dist/${file%.ts}.js")
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ -t 1 ]; then reporter=terse; else reporter=silent; fi
status=0
npx --no-install tap run --disable-coverage --allow-empty-coverage --jobs="${JOBS:-2}" --timeout=1200 \
  --reporter=$reporter --output-file="$log" "${compiled[@]}" || status=$?

# Raw TAP: every failure with its diagnosis; skips with their reasons, then `# { total: 9, pass: 7, fail: 1, skip: 1 }` at the end.
awk '/^ *not ok/ { shown = 25 } shown-- > 0' "$log"
sed -nE 's/^ *ok [0-9]+ - (.*) # SKIP (.*)$/skipped: \1: \2/p' "$log"
count() { sed -nE 's/^# \{ total.*\}$/&/p' "$log" | tail -n 1 | sed -nE "s/.*[ {]$1: ([0-9]+).*/\1/p"; }
passed=$(count pass) failed=$(count fail) skipped=$(count skip)
echo "${passed:-0} passed, ${failed:-0} failed, ${skipped:-0} skipped"
exit "$status"
