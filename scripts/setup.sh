#!/bin/sh
# Make the environment in .venv, with the versions of constraints.txt. Called by `make setup`; does nothing when it stands.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $1" >&2
    exit 1
}

python="${PYTHON:-}"
if [ -z "$python" ]; then
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c '' 2>/dev/null; then
            python="$candidate"
            break
        fi
    done
fi
[ -n "$python" ] || fail "Python 3.11 to 3.13 is needed; found none. Install it, or name it: make setup PYTHON=/path/to/python3.12"

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python must be a Python; it does not start."
case "$version" in
    3.11 | 3.12 | 3.13) ;;
    *) fail "Python 3.11 to 3.13 is needed (Hydra 1.3 fails on 3.14); $python is $version. Name another: make setup PYTHON=python3.12" ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python cannot make virtual environments. Debian and Ubuntu: apt install python$version-venv"

needed_mb="${SETUP_NEEDS_MB:-3000}"
free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge "$needed_mb" ] || fail "$needed_mb MB of disk are needed; $(pwd) has $free_mb MB free. Free some, or clone elsewhere."

echo "Making .venv with $python ($version): some minutes, about 2.3 GB"
[ -x .venv/bin/python ] || "$python" -m venv .venv
mended="Once mended, \`make setup\` goes on where it was."
pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip 'pip>=25' || fail "pip could not be brought up to date, see above. $mended"  # older ones take minutes more to choose versions
export PYTHONWARNINGS=ignore  # setuptools warns of a folder named like the package, which an editable installation always has
$pip --no-compile --constraint constraints.txt --editable '.[dev]' || fail "pip could not install the packages, see above. $mended"
# Bytecode on all cores, where pip would use one. Some packages hold templates and tests that are no Python, which does not matter.
.venv/bin/python -m compileall -qq -j 0 -x '/site-packages/.*/tests?/' .venv/lib || true
touch .venv/ready
