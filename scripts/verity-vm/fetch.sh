#!/usr/bin/env bash
# Unpacks Debian's newest kernel for virtual machines, or the newest of the series $2, such as 6.12, and its busybox, below
# $1/packages. boot.sh and scripts/kernels/record.sh call it. The packages come from the mirror that apt-get is configured with,
# including backports: overlayfs checks fs-verity since Linux 6.6, and Debian 12 has 6.1. apt-get uses lists and a cache of its own
# in $1, so this machine is not changed.
set -euo pipefail
cd "$1"
missing() { echo "$1" >&2; exit 77; }

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' "Release: $codename" |
  head -n 1)
[ -n "$mirror" ] || missing "apt-get has no package lists of Debian: apt-get update makes them"

mkdir -p lists/partial cache/archives/partial packages
for suite in "$codename" "$codename-backports"; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >sources.list
options=(
  -qq -o "Dir::Etc::SourceList=$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache"
  -o Acquire::Languages=none -o APT::Sandbox::User=root # the user _apt cannot write here
)
apt-get "${options[@]}" update >update.log 2>&1 || true # parts may fail: only the kernel matters
if [ -n "${2:-}" ]; then
  wanted="a package linux-image-$2.*-cloud-amd64"
  kernel=$(apt-cache "${options[@]}" pkgnames "linux-image-$2." | grep -- '-cloud-amd64$' | sort -V | tail -n 1 || true)
else
  wanted='the package linux-image-cloud-amd64'
  kernel=$({ apt-cache "${options[@]}" show linux-image-cloud-amd64 2>/dev/null || true; } |
    sed -nE 's/^Depends: (linux-image-[^ ,]+).*/\1/p' | sort -V | tail -n 1)
fi
[ -n "$kernel" ] || missing "$wanted cannot be downloaded: $(head -n 1 update.log)"

apt-get "${options[@]}" download "$kernel" busybox-static >download.log 2>&1 ||
  missing "$kernel or busybox-static cannot be downloaded: $(head -n 1 download.log)"
for package in ./*.deb; do dpkg-deb -x "$package" packages; done
