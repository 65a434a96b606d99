#!/usr/bin/env bash
# Prints the values of C integer expressions, as the system's headers define them: one expression per line on standard input, one
# value per line on standard output. test/fuse/wire/abi.ts runs it. Usage: echo 'offsetof(struct fuse_attr, mode)' |
# scripts/abi-offsets.sh linux/fuse.h
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  printf '#include <%s>\n' stddef.h stdio.h "$@"
  echo 'int main(void) {'
  while IFS= read -r expression; do
    printf '  printf("%%lld\\n", (long long)(%s));\n' "$expression"
  done
  echo '}'
} >"$work/ask.c"
"${CC:-cc}" -o "$work/ask" "$work/ask.c"
"$work/ask"
