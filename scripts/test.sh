#!/usr/bin/env bash
# Runs all tests with `npm test`, or some files of test/ with `npm test -- FILE...`. Prints the skipped tests and a line of counts
# at the end. A test that needs root, /dev/fuse or a missing program is skipped with the reason, and counted.
# Each file runs under plain node, two at a time, because the runner of tap would also load its tools into every daemon.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
scripts/test-packages.sh
scripts/setup.sh
npm run --silent check

files=("$@")
if [ ${#files[@]} -eq 0 ]; then mapfile -t files < <(find test -name '*.ts' -not -path 'test/fixtures/*' | sort); fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export TAP_TIMEOUT=1200 logs

run_file() {
  local file=${1#./} log begin=$SECONDS
  log=$logs/${file//\//-}
  if node "dist/${file%.ts}.js" >"$log" 2>&1; then
    echo "ok      $file ($((SECONDS - begin)) s)"
  else
    echo "FAILED  $file ($((SECONDS - begin)) s)"
    awk '/^ *not ok/ { shown = 50 } shown-- > 0' "$log"
    grep -q '^# { total' "$log" || { tail -n 25 "$log" && echo '# { total: 1, pass: 0, fail: 1 }' >>"$log"; }
  fi
  grep '^# { total' "$log" | tail -n 1 >>"$logs/totals"
}
export -f run_file
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "${JOBS:-2}" bash -c 'run_file "$1"' run_file

# TAP: skips with their reasons, and `# { total: 9, pass: 7, fail: 1, skip: 1 }` at the end of each file.
sed -nE 's/^ *ok [0-9]+ - (.*) # SKIP (.*)$/skipped: \1: \2/p' "$logs"/test-*
count() { sed -nE "s/.*[ {]$1: ([0-9]+).*/\1/p" "$logs/totals" | awk '{ sum += $1 } END { print sum + 0 }'; }
failed=$(count fail)
echo "$(count pass) passed, $failed failed, $(count skip) skipped"
[ "$failed" -eq 0 ]
