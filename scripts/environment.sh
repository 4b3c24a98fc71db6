# How do the scripts find a Python that has pellucid? They source this file and call `environment`.
#
# It makes a virtual environment in .venv (or $PELLUCID_VENV) with the first Python >= 3.11 that can
# (or $PYTHON), and installs pellucid there, editable, with the extras asked for. A stamp per set of
# extras remembers what was installed, so that the second time costs nothing.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${PELLUCID_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
python=$venv/bin/python

fail() {
    printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
    exit 1
}

# A name may be found and still not start, or lack what Debian packs apart: so it is tried.
suits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python; do
        if suits "$name"; then
            printf '%s\n' "$name"
            return
        fi
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is no Python 3.11 or newer with venv and ensurepip"
    done
    fail "found no Python 3.11 or newer with the modules venv and ensurepip.
Install it (on Debian and Ubuntu: apt install python3 python3-venv), or name it: PYTHON=... $0"
}

make_venv() {
    found=$(find_python) || exit 1
    # Only what is a virtual environment already is ever cleared.
    clear=
    [ ! -e "$venv/pyvenv.cfg" ] || clear=--clear
    "$found" -m venv $clear "$venv" || fail "$found cannot make a virtual environment in $venv"
}

# What an installation depends on: the project's file, the two places, and the Python.
fingerprint() {
    { cat -- "$root/pyproject.toml" && printf '%s\n' "$root" "$venv" && "$python" -V; } | cksum
}

# A Python asked for by name is not silently another one because an environment is there already.
expect_named_python() {
    [ -n "${PYTHON:-}" ] && [ -x "$python" ] || return 0
    [ "$("$PYTHON" -V 2>&1)" = "$("$python" -V)" ] ||
        fail "$venv has $("$python" -V), not PYTHON=$PYTHON; remove it, or set PELLUCID_VENV too"
}

# environment EXTRAS: afterwards $python runs pellucid and the packages of EXTRAS (may be empty).
environment() {
    expect_named_python
    stamp=$venv/installed-${1:-plain}
    if [ -x "$python" ] && [ "$(cat -- "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; then
        return
    fi
    printf 'Installing pellucid%s into %s ...\n' "${1:+[$1]}" "$venv" >&2
    { suits "$python" && "$python" -c 'import pip' 2>/dev/null; } || make_venv
    "$python" -m pip install --quiet --disable-pip-version-check --editable "$root${1:+[$1]}" ||
        fail "cannot install pellucid; the message above says why"
    fingerprint >"$stamp"
}
