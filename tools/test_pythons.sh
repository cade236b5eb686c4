#!/usr/bin/env bash
# Runs the tests that can tell Pythons apart on each supported one, in an environment of its own, but
# for the default one: `make test` runs all tests there. A Python that is missing is named.
set -euo pipefail
cd "$(dirname "$0")/.."
default=$("${PYTHON:-python3}" -c 'import sys; print("{}.{}".format(*sys.version_info))')
ran=0
for version in 3.10 3.11 3.12 3.13; do
  [ "$version" != "$default" ] || { echo "Python $version is the default: make test"; continue; }
  # pyenv keeps several versions behind one name; elsewhere python3.x is on the path.
  python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python 2>/dev/null | tail -n 1 || true)
  [ -n "$python" ] || python=$(command -v "python$version" || true)
  if [ -z "$python" ]; then
    echo "Python $version is not installed here: not tested"
    continue
  fi
  folder=.venv-$version
  [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
  "$folder/bin/python" -m pip install -q -e '.[server,dev]'
  echo "Python $version"
  "$folder/bin/python" -m pytest -q -m "not slow and not system" --no-header -p no:cacheprovider \
    -n "${WORKERS:-2}" --dist loadfile
  ran=$((ran + 1))
done
[ "$ran" -ge 1 ] || { echo "no supported Python besides the default was found"; exit 1; }
