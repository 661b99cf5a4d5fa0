#!/usr/bin/env bash
# Build the virtual environment: environment.sh PYTHON FOLDER. Python 3.11 or 3.12.
set -euo pipefail
python=$1
venv=$2
here=$(cd "$(dirname "$0")" && pwd)

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
    echo "clinfer: no '$python' on this machine; install Python 3.11 or 3.12, or run make PYTHON=..." >&2
    exit 1
}
case "$version" in
    3.11 | 3.12) ;;
    *)
        echo "clinfer: '$python' is Python $version; Python 3.11 or 3.12 is needed (make PYTHON=python3.12)" >&2
        exit 1
        ;;
esac

"$python" -c 'import ensurepip' 2>/dev/null || bash "$here/debian_packages.sh" python3-venv
# Numba's OpenMP threading layer loads the system's libgomp.
ldconfig -p 2>/dev/null | grep -q 'libgomp.so.1' || bash "$here/debian_packages.sh" libgomp1

echo "clinfer: building $venv with Python $version (a few minutes the first time)"
"$python" -m venv "$venv"
# torch is asked for by exact version first: a range would fetch a CUDA build of several GB.
grep -E '^torch==' "$here/../requirements.lock" | xargs "$venv/bin/pip" install --quiet --disable-pip-version-check
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/../requirements.lock"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable "$here/.."
