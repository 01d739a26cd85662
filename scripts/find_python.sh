#!/bin/sh
# Print the newest CPython from 3.13 down to 3.11 that works; an argument names the one to take instead.
# A candidate is tried by running it: a pyenv shim may exist for a version that is not active, and a
# distribution may ship Python without venv.
works() {
    "$1" -c 'import ensurepip, sqlite3, ssl, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

if [ -n "$1" ]; then
    works "$1" && exec echo "$1"
    echo "$1 is no working CPython from 3.11 to 3.13 with venv" >&2
    exit 1
fi
for minor in 13 12 11; do
    for python in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python; do
        works "$python" && exec echo "$python"
    done
done
for python in python3 python; do
    works "$python" && exec echo "$python"
done
echo "no working CPython from 3.11 to 3.13 found; install one (with venv), or name it: make setup PYTHON=…" >&2
exit 1
