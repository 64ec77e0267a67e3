# Shared by the commands in scripts/: a virtual environment with exactly what a lock file names.
# Sourced from the project's root by bash with `set -euo pipefail`.

say() { printf 'nbl: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# A relative DATA_DIR is meant from where the caller stood before the script went to the project's root.
anchor_data_dir() {
    case ${DATA_DIR:-} in
    '' | /* | '~'*) ;;
    *) export DATA_DIR=$OLDPWD/$DATA_DIR ;;
    esac
}

# Prints the path of a Python 3.11+ that is not the one of .venv, which may be about to go.
find_python() {
    local candidate search=${PATH//"$PWD/.venv/bin:"/}
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if PATH=$search "$candidate" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
print(sys._base_executable)' 2>/dev/null; then
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and no python3 or python3.11 to python3.14 on PATH is one; install it first"
}

# Runs a long command that ends together with this script on Ctrl-C and SIGTERM.
run_step() {
    local pid code=0
    "$@" &
    pid=$!
    trap "kill $pid 2>/dev/null; wait $pid 2>/dev/null; exit 130" INT
    trap "kill $pid 2>/dev/null; wait $pid 2>/dev/null; exit 143" TERM
    wait "$pid" || code=$?
    trap - INT TERM
    return "$code"
}

# What stands in the stamp of a finished installation: the interpreter behind .venv, and the lock.
stamp_text() {
    readlink -f .venv/bin/python
    cat "$1"
}

venv_is_ready() {
    [[ -x .venv/bin/python && ! -e .venv/.incomplete ]] && stamp_text "$1" | cmp -s - ".venv/.installed-$1"
}

can_make_venv() { "$1" -c 'import ensurepip; ensurepip.version()' >/dev/null 2>&1; }

# Installs a package where we may: as root on Debian and Ubuntu. Whoever asked looks whether it helped.
install_package() {
    local package=$1
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing $package with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        run_step apt-get install -y -qq "$package" >/dev/null 2>&1 ||
            { run_step apt-get update -qq >&2 && run_step apt-get install -y -qq "$package" >&2; } || true
    fi
}

# Debian and Ubuntu keep a part of Python that venv needs in a package of its own.
install_venv_package() {
    local python=$1 package
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    install_package "$package"
    can_make_venv "$python" ||
        fail "$python can't make virtual environments; install them (Debian, Ubuntu: apt-get install $package)"
}

build_venv() {
    local lock=$1 python=$2
    # Whatever an interrupted set-up left may look installed without being whole.
    if [[ -e .venv/.incomplete ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        can_make_venv "$python" || install_venv_package "$python"
        rm -rf .venv
        mkdir .venv
        touch .venv/.incomplete
        run_step "$python" -m venv .venv || fail "$python could not make .venv"
    fi
    touch .venv/.incomplete
    say "installing what $lock names into .venv; the first time this takes a minute"
    # The lock is complete. Left to resolve, pip would refuse it once a package that another one wants with an extra
    # has a release newer than the one locked.
    run_step .venv/bin/python -m pip install -qq --disable-pip-version-check --no-input \
        --no-deps --require-hashes -r "$lock" >&2 || fail "the installation failed; run this again when the cause is gone"
    stamp_text "$lock" >".venv/.installed-$lock"
    rm .venv/.incomplete
}

# prepare_venv LOCK: .venv holds what LOCK names; nothing is done when it does already.
prepare_venv() {
    local lock=$1 python
    if venv_is_ready "$lock"; then
        return
    fi
    python=$(find_python)
    # The kernel's lock stays with our descriptor after Python has taken it, and goes when we do.
    exec 9<requirements.lock
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    venv_is_ready "$lock" || build_venv "$lock" "$python"
    exec 9<&-
}
