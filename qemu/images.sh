# shellcheck shell=bash
# What the lab's machines boot: Debian's cloud kernel and an initramfs that proves its payload.
# Sourced by qemu/netboot and qemu/domain. Needs lib.sh.

# kernel_image FILE: puts Debian's cloud kernel at FILE. The package is unpacked in a cache under the
# target folder, never installed on this machine.
kernel_image() {
    local cache=${CARGO_TARGET_DIR:-$REPO/target}/netboot-cache package work
    mkdir -p "$cache"
    if [ ! -s "$cache/vmlinuz" ]; then
        [ "$(dpkg --print-architecture)" = amd64 ] || die "the lab boots amd64 machines and takes their kernel from this machine's package source, which is not amd64."
        package=$(kernel_package)
        if [ -z "$package" ]; then
            timeout 300 apt-get update >/dev/null 2>&1 || true
            package=$(kernel_package)
        fi
        [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: is a Debian package source configured?"
        step "getting the kernel: $package (unpacked in ${cache#"$REPO"/}, not installed)"
        work=$(mktemp -d "$cache/kernel.XXXXXX")
        if ! (cd "$work" &&
            { kernel_download "$package" || { timeout 300 apt-get update && kernel_download "$package"; }; } &&
            dpkg-deb -x ./*.deb tree) >"$work/log" 2>&1; then
            tail -n 5 "$work/log" >&2
            rm -rf "$work"
            die "apt could not download $package."
        fi
        # A rename, so that another run never sees half a file.
        mv "$work"/tree/boot/vmlinuz-* "$cache/vmlinuz"
        rm -rf "$work"
    fi
    cp "$cache/vmlinuz" "$1"
}

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1
}

kernel_download() {
    timeout 600 apt-get -o APT::Sandbox::User=root download "$1"
}

# initramfs_image FILE KIB: makes an initramfs with a random payload of KIB KiB at FILE and prints the
# SHA-256 of the payload. The payload is random so that no block of the file is like another.
initramfs_image() {
    local tree=$LAB_DIR/initramfs sum
    mkdir -p "$tree"/{bin,proc,dev}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp "$QEMU_DIR/files/init" "$tree/init"
    chmod 755 "$tree/init" "$tree/bin/busybox"
    head -c "$(($2 * 1024))" /dev/urandom >"$tree/payload"
    sum=$(sha256sum <"$tree/payload")
    sum=${sum%% *}
    printf '%s  payload\n' "$sum" >"$tree/payload.sha256"
    (cd "$tree" && find . -print | sort | cpio --quiet -o -H newc -R 0:0) >"$1"
    rm -rf "$tree"
    printf '%s\n' "$sum"
}
