#!/bin/sh
# Installs what `make test` needs and this machine lacks, or with `demo` what `make demo` needs. A
# fresh Debian 12 with Rust is enough to start from; on another system the missing package is named
# and left to you. Does nothing, and asks no registry, when everything is there.
set -eu
goal=${1:-test}

# Tried with the Rust version in Cargo.toml. A newer one may need a newer compiler, so the
# version moves on purpose and never by itself.
NEXTEST_VERSION=0.9.151

fail() {
    printf 'install-tools: %s\n' "$1" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

install_debian_packages() {
    if ! has apt-get; then
        fail "these are missing and this is no Debian: $*. Install them, then run this again."
    fi
    if [ "$(id -u)" -eq 0 ]; then
        as_root=''
    elif has sudo && sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    else
        fail "these packages are missing: $*. Run as root: apt-get install $*"
    fi
    printf 'install-tools: installing Debian packages: %s\n' "$*"
    # shellcheck disable=SC2086 # `as_root` is two words or none.
    $as_root apt-get -qq update
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"
}

install_rust_component() {
    component=$1
    if ! has rustup; then
        fail "$component is missing and there is no rustup to add it: install it as you installed Rust."
    fi
    printf 'install-tools: adding the Rust component %s\n' "$component"
    rustup component add "$component"
}

if ! has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
    export PATH
fi
has cargo || fail 'cargo is not in PATH: install Rust first, then run this again.'

# The linker that rustc calls, and the C++ compiler that libFuzzer and mimalloc are built with.
missing=''
has cc || missing="$missing gcc libc6-dev"
has c++ || missing="$missing g++"
has make || missing="$missing make"
# The commands that the demonstration tells people to try.
has redis-cli || missing="$missing redis-tools"
if [ "$goal" = test ]; then
    # The store for Redis is tested against a real server.
    has redis-server || missing="$missing redis-server"
    # Each node of a test has a network namespace of its own, where root is there.
    has ip || missing="$missing iproute2"
    # A real WordPress in a real database; npm fetches its files.
    has mariadbd || missing="$missing mariadb-server"
    has mariadb || missing="$missing mariadb-client"
    has php && php -m | grep -qx mysqli || missing="$missing php-cli php-mysql"
    has npm || missing="$missing npm"
fi
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # A list of package names.
    install_debian_packages $missing
fi

[ "$goal" = test ] || exit 0

cargo fmt --version >/dev/null 2>&1 || install_rust_component rustfmt
cargo clippy --version >/dev/null 2>&1 || install_rust_component clippy

if ! cargo nextest --version >/dev/null 2>&1; then
    printf 'install-tools: building cargo-nextest %s (ten minutes or so, once)\n' "$NEXTEST_VERSION"
    # Without its self-updater, which would bring a TLS stack to compile.
    cargo install --locked "cargo-nextest@$NEXTEST_VERSION" \
        --no-default-features --features default-no-update
fi
