#!/usr/bin/env bash
# Make sure that Debian packages are installed: debian_packages.sh PACKAGE...
# Installs the missing ones where it may (root, or sudo without a password); names them where not.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

say_what_to_do() {
    echo "clinfer: these packages are missing: ${missing[*]}" >&2
    echo "clinfer: install them with: apt-get install ${missing[*]}  (Debian 12; other systems: their equivalents)" >&2
    exit 1
}

command -v apt-get >/dev/null || say_what_to_do
if [ "$(id -u)" -eq 0 ]; then
    root=()
elif sudo -n true 2>/dev/null; then
    root=(sudo -n)
else
    say_what_to_do
fi

# Servers that come along (Orthanc, PostgreSQL) must not be started as system services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
    trap '"${root[@]}" rm -f "$policy"' EXIT
fi

echo "clinfer: installing ${missing[*]}"
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || say_what_to_do
