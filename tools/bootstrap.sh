#!/bin/sh
# Install what the commands of this repository need, and nothing twice.
#
#   tools/bootstrap.sh python   .venv with everything from requirements/dev.txt (hash-pinned)
#   tools/bootstrap.sh hosts    also what builds and runs hosts under test (podman, mmdebstrap, ...)
#   tools/bootstrap.sh vms      also what runs virtual machines (QEMU, nbdkit)
#   tools/bootstrap.sh peers    freqtrade and nautilus_trader, each apart (1.5 GB; python3.12 or 3.13)
#
# Known to it: Debian 12, Debian 13, Ubuntu 24.04, as root or with sudo. Elsewhere it says what is
# missing and stops. Beforehand git, make and python3 (3.11 or newer) must be there.
set -eu

cd "$(dirname "$0")/.."
stamps=.cache/bootstrap
uv_home=.cache/uv

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
    printf 'bootstrap: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $*; install sudo or run make as root"
    fi
}

# wants PACKAGE REASON -> adds the package to the list to install
wanted=""
reasons=""
wants() {
    wanted="$wanted $1"
    reasons="$reasons
    $1: $2"
}

install_wanted() {
    [ -n "$wanted" ] || return 0
    say "System packages are missing:$reasons"
    if ! command -v apt-get >/dev/null; then
        die "this platform has no apt-get. Install the equivalents of:$wanted"
    fi
    say "Installing them with apt-get"
    # shellcheck disable=SC2086 # one word per package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 update >&2 ||
        die "apt-get update failed, see above"
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
        -o Dpkg::Use-Pty=0 install --no-install-recommends $wanted >&2 ||
        die "apt-get could not install:$wanted"
    wanted=""
    reasons=""
}

# The newest of the interpreters that this repository is tested on, or what PYTHON names.
find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "python3 (3.11 or newer) is missing"
}

# pip's settings are the user's way to name a mirror or a CA; uv reads its own, so hand them over.
mirror_settings() {
    if [ -z "${UV_DEFAULT_INDEX:-}" ] && [ -n "${PIP_INDEX_URL:-}" ]; then
        export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
    fi
    if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-}" ]; then
        export SSL_CERT_FILE="$PIP_CERT"
    fi
    export UV_SYSTEM_CERTS=1 # the CAs that the machine trusts, as apt and curl do
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
    export UV_LINK_MODE="${UV_LINK_MODE:-copy}" # the cache is often on another file system
}

bootstrap_python() {
    # Debian keeps both where only root looks for programs.
    [ -x /usr/sbin/logrotate ] || wants logrotate "tests of the rotation's settings"
    [ -x /sbin/mke2fs ] || wants e2fsprogs "tests of the virtual machines' disks"
    install_wanted
    python=$(find_python)
    inputs="requirements/dev.txt requirements/uv.txt bot/pyproject.toml"
    # shellcheck disable=SC2086
    key=$( { cat $inputs; "$python" -VV; pwd; } | sha256sum | cut -c1-16)
    [ -e "$stamps/python-$key" ] && [ -x .venv/bin/ansible-playbook ] && return 0

    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        wants python3-venv "makes .venv, where everything written in Python is installed"
        install_wanted
    fi
    mirror_settings

    say "Python tools into .venv ($("$python" -V), about a minute; versions and hashes: requirements/dev.txt)"
    mkdir -p "$stamps"
    if ! "$uv_home/bin/uv" --version 2>/dev/null | grep -qF "$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)"; then
        "$python" -m venv --clear "$uv_home"
        "$uv_home/bin/python" -m pip install -q --disable-pip-version-check --require-hashes \
            -r requirements/uv.txt
    fi
    # A .venv of another interpreter or of a moved checkout cannot be mended.
    if ! [ -x .venv/bin/python ] || [ "$(.venv/bin/python -VV 2>/dev/null)" != "$("$python" -VV)" ] ||
        ! grep -qF "$PWD/.venv" .venv/bin/activate; then
        "$uv_home/bin/uv" -q venv --clear --python "$python" .venv
    fi
    VIRTUAL_ENV="$PWD/.venv"
    export VIRTUAL_ENV
    "$uv_home/bin/uv" -q pip sync --require-hashes requirements/dev.txt
    "$uv_home/bin/uv" -q pip install --no-deps --no-build-isolation --editable bot

    # Compiled once here, or paid at every start (seconds for ccxt) wherever
    # PYTHONDONTWRITEBYTECODE is set. The collections are read by Ansible, hardly ever imported.
    say "Compiling them"
    .venv/bin/python -m compileall -q -j 2 -x 'ansible_collections|/test/' .venv/lib >/dev/null || true
    rm -f "$stamps"/python-*
    touch "$stamps/python-$key"
}

# crun, the default, needs cgroup v2 or at least CAP_SYS_RESOURCE; runc does without.
crun_works() {
    [ -e /sys/fs/cgroup/cgroup.controllers ] || return 1
    caps=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
    [ $((0x$caps >> 24 & 1)) = 1 ]
}

bootstrap_hosts() {
    command -v podman >/dev/null || {
        wants podman "runs the hosts under test (containers with a real systemd)"
        wants netavark "podman's network between venue and hosts"
        wants aardvark-dns "podman's network, names"
    }
    command -v iptables >/dev/null || wants iptables "podman's network, packet rules"
    if crun_works; then
        command -v crun >/dev/null || command -v runc >/dev/null ||
            wants crun "podman's runtime"
    else
        command -v runc >/dev/null ||
            wants runc "podman's runtime (crun needs cgroup v2 and CAP_SYS_RESOURCE)"
    fi
    command -v mmdebstrap >/dev/null || wants mmdebstrap "builds the hosts' images"
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
        wants debian-archive-keyring "proves the images' packages"
    command -v ssh >/dev/null || wants openssh-client "Ansible's way into the hosts"
    command -v ip >/dev/null || wants iproute2 "the venue's address on the test network"
    command -v setpriv >/dev/null || wants util-linux "drops privileges"
    install_wanted
}

bootstrap_vms() {
    command -v qemu-system-x86_64 >/dev/null || {
        wants qemu-system-x86 "runs the virtual machines that lose power"
        wants seabios "their firmware"
        wants ipxe-qemu "their network card's firmware"
    }
    command -v nbdkit >/dev/null || wants nbdkit "their disks, with a cache that a power cut empties"
    [ -x /sbin/mke2fs ] || wants e2fsprogs "makes their disks"
    install_wanted
}

# Both peers have wheels for these. pyenv's are found even where none of them is switched on.
find_peers_python() {
    for candidate in ${PEERS_PYTHON:-python3.13 python3.12 python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[23].*/bin/python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info < (3, 14))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    [ -z "${PEERS_PYTHON:-}" ] || die "PEERS_PYTHON=$PEERS_PYTHON is not Python 3.12 or 3.13"
    echo 3.13 # uv fetches one
}

# Never into .venv: peers/environment.py finds them by the digest of their lock.
bootstrap_peers() {
    command -v unshare >/dev/null || wants util-linux "a network in which the venue's names are ours"
    install_wanted
    mirror_settings
    for name in freqtrade nautilus; do
        lock="requirements/peers-$name.txt"
        target=".cache/peers/$name-$(sha256sum "$lock" | cut -c1-16)"
        [ -e "$target/installed" ] && continue
        python=$(find_peers_python)
        say "$name into $target ($python; versions and hashes: $lock)"
        rm -rf ".cache/peers/$name"-*
        "$uv_home/bin/uv" -q venv --python "$python" "$target" ||
            die "the peers need Python 3.12 or 3.13; name one: PEERS_PYTHON=/path/to/python3"
        "$uv_home/bin/uv" -q pip sync --python "$target/bin/python" --require-hashes \
            --compile-bytecode "$lock"
        touch "$target/installed"
    done
}

case "${1:-}" in
    python) bootstrap_python ;;
    hosts)
        bootstrap_python
        bootstrap_hosts
        ;;
    vms)
        bootstrap_python
        bootstrap_hosts
        bootstrap_vms
        ;;
    peers)
        bootstrap_python
        bootstrap_peers
        ;;
    *) die "usage: tools/bootstrap.sh python|hosts|vms|peers" ;;
esac
