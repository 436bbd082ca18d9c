#!/usr/bin/env bash
# Set up an environment if there is none, then start the command line, synpos_lib/workflow/cli.py. `./run_all.sh --help` lists its commands.
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" > /dev/null && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 # no module of the folder where the command is given stands in for one of the library
export PYTHONUTF8=1     # whatever the locale says

# An active environment that meets the requirements is used as it is.
active="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}"
if [[ -n "$active" && "$active" != "$root/.venv" && -x "$active/bin/python" ]]; then
    if lacks="$("$active/bin/python" -m synpos_lib.workflow.environment test 2>/dev/null)"; then
        exec "$active/bin/python" -m synpos_lib.workflow.cli "$@"
    fi
    lacks="${lacks:-Python 3.11}"
    echo "The active environment $active lacks ${lacks//$'\n'/, }: using .venv instead." >&2
fi

# .venv, made by this script; its stamp is a copy of the list that it was finished from.
venv="$root/.venv"
stamp="$venv/made-from-requirements.lock"
if cmp -s "$root/requirements.lock" "$stamp" && [[ -x "$venv/bin/python" ]]; then
    exec "$venv/bin/python" -m synpos_lib.workflow.cli "$@"
fi

for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
    if "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    python=
done
if [[ -z "$python" ]]; then
    echo "Python 3.11 or newer with venv is needed, and $(python3 --version 2>&1 || true) is what 'python3' gives here:" \
        "install one from python.org, or 'conda env create -f environment.yml' and activate it." >&2
    exit 2
fi
"$python" -m synpos_lib.workflow.cli --check "$@" || exit 2
if [[ " $* " == *" --help "* || " $* " == *" -h "* ]]; then exit 0; fi

if [[ -e "$stamp" && -x "$venv/bin/python" ]]; then
    echo "Updating .venv to requirements.lock."
    rm "$stamp" # from here on it is unfinished
else
    if [[ -e "$venv" ]]; then echo "Making .venv again, since it is unfinished; downloads are cached."
    else echo "Making .venv (once; several GB with torch)."; fi
    "$python" -m venv --clear "$venv"
fi
"$venv/bin/python" -m pip --disable-pip-version-check install --progress-bar off -r "$root/requirements.lock" | awk -v total="$(grep -c == "$root/requirements.lock")" '
    /^ *(Downloading|Using cached|Processing|Requirement already satisfied:) / && !/[.]metadata/ {
        sub(/^ *(Downloading|Using cached|Processing|Requirement already satisfied:) /, ""); size = $2 ~ /^[(]/ ? $2 " " $3 : ""
        sub(/.*\//, "", $1); printf "  [%d of at most %d] %s %s\n", ++n, total, $1, size; fflush() }
    /^Installing/ { print "  Unpacking; this takes a few minutes."; fflush() }'
echo "$root" > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/synpos.pth"
cp "$root/requirements.lock" "$stamp"
echo "Environment ready."
exec "$venv/bin/python" -m synpos_lib.workflow.cli "$@"
