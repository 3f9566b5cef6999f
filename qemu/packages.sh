# shellcheck shell=bash
# Debian packages and Rust tools that the scripts need: looks what is there, installs what is not.
# Sourced by the scripts of qemu/ and by tests/run. Needs lib.sh.

# need_packages NAME...: installs those Debian packages that are missing.
need_packages() {
    local name missing=() log
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "these Debian packages are missing and there is no apt-get: ${missing[*]}"

    step "installing Debian packages: ${missing[*]}"
    log=$(mktemp)
    # The package lists of a fresh machine are empty or old, so a first failure means "update and try again".
    if ! apt_install "${missing[@]}" >"$log" 2>&1; then
        if ! { timeout 300 apt-get update && apt_install "${missing[@]}"; } >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            die "apt could not install: ${missing[*]} (its last words are above). Install them by hand, or see whether this is Debian 12 with a working package source."
        fi
    fi
    rm -f "$log"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# need_cargo: cargo in PATH, and of a version that can build the workspace.
need_cargo() {
    local want have
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    want=$(sed -n 's/^rust-version *= *"\(.*\)".*/\1/p' "$REPO/Cargo.toml")
    command -v cargo >/dev/null ||
        die "cargo is missing: Debian 12 packages a Rust that is too old, so install Rust $want or newer with rustup (https://rustup.rs), then run this again."
    have=$(cd "$REPO" && cargo --version | awk '{print $2}')
    [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
        die "cargo $have is too old: Rust $want or newer is needed ('rustup update stable')."
}

# need_root WHY
need_root() {
    [ "$(id -u)" -eq 0 ] || die "must run as root: $1."
}

# need_lab: all that a boot lab needs, and in PXEMC_BIN the folder with our programs.
need_lab() {
    need_root "it makes network namespaces"
    need_packages iproute2 qemu-system-x86 ipxe-qemu seabios dnsmasq-base busybox-static cpio
    [ -c /dev/net/tun ] || die "/dev/net/tun is missing: load the kernel module 'tun' (or give it to this container)."
    if [ -n "${PXEMC_BIN:-}" ]; then
        [ -d "$PXEMC_BIN" ] || die "PXEMC_BIN: there is no folder '$PXEMC_BIN'."
        PXEMC_BIN=$(cd "$PXEMC_BIN" && pwd)
    else
        need_packages build-essential
        need_cargo
        step "building the daemons"
        (cd "$REPO" && timeout 3000 cargo build --release --locked --workspace --bins) || die "the daemons do not build."
        PXEMC_BIN=${CARGO_TARGET_DIR:-$REPO/target}/release
    fi
    local program
    for program in binld mtftpd pxemc-db; do
        [ -x "$PXEMC_BIN/$program" ] || die "$PXEMC_BIN holds no program '$program'."
    done
}

# need_static_get: in PXEMC_GET a `mtftp-get` that needs no library: one file for an initramfs.
need_static_get() {
    local target=x86_64-unknown-linux-gnu
    if [ -z "${PXEMC_GET:-}" ]; then
        need_packages build-essential
        need_cargo
        step "building a static mtftp-get"
        (cd "$REPO" && RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=true \
            timeout 3000 cargo build --release --locked -p mtftp --bin mtftp-get --target "$target") ||
            die "the static mtftp-get does not build."
        PXEMC_GET=${CARGO_TARGET_DIR:-$REPO/target}/$target/release/mtftp-get
    fi
    [ -x "$PXEMC_GET" ] || die "PXEMC_GET: '$PXEMC_GET' is no program."
    ! ldd "$PXEMC_GET" 2>/dev/null | grep -q '=>' ||
        die "PXEMC_GET: '$PXEMC_GET' needs libraries, which the initramfs does not have; the README says how a static one is built."
}
