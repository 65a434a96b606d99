#!/usr/bin/env bash
# Installs the packages of scripts/test-packages that are missing, where this may be done: as root, on Debian, and unless
# TEST_PACKAGES=never. Never fails: a test whose program is missing is skipped and says so.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")"

[ "${TEST_PACKAGES-}" != never ] || exit 0
[ "$(id -u)" = 0 ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || exit 0
missing=()
while read -r package; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done < <(grep -v '^#' test-packages)
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing what tests need: ${missing[*]} (TEST_PACKAGES=never leaves them out)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
install >"$log" 2>&1 || { echo 'not installed; tests that need them are skipped:' && tail -n 3 "$log"; }
