# shellcheck shell=bash
# What the lab's machines boot: Debian's cloud kernel and an initramfs that proves its payload.
# Sourced by the scripts of qemu/. Needs lib.sh.

# image_cache: the folder of what was unpacked, under the target folder.
image_cache() {
    local cache=${CARGO_TARGET_DIR:-$REPO/target}/netboot-cache
    mkdir -p "$cache"
    printf '%s\n' "$cache"
}

# What Linux needs for a virtio network card, each after what it needs itself.
readonly NET_MODULES=(
    virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net
)

# kernel_image FILE: puts Debian's cloud kernel at FILE. The package is unpacked in the cache, never installed on this
# machine.
kernel_image() {
    kernel_unpacked
    cp "$(image_cache)/vmlinuz" "$1"
}

# kernel_modules FOLDER: puts that kernel's NET_MODULES there.
kernel_modules() {
    local name cache
    kernel_unpacked
    cache=$(image_cache)
    for name in "${NET_MODULES[@]}"; do cp "$cache/modules/$name.ko" "$1"; done
}

kernel_unpacked() {
    local cache package work name
    cache=$(image_cache)
    if [ ! -s "$cache/vmlinuz" ] || [ ! -d "$cache/modules" ]; then
        [ "$(dpkg --print-architecture)" = amd64 ] || die "the lab boots amd64 machines and takes their kernel from this machine's package source, which is not amd64."
        package=$(kernel_package)
        if [ -z "$package" ]; then
            timeout 300 apt-get update >/dev/null 2>&1 || true
            package=$(kernel_package)
        fi
        [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: is a Debian package source configured?"
        work=$(unpack "$package")
        mkdir "$work/modules"
        for name in "${NET_MODULES[@]}"; do
            find "$work/tree/lib/modules" -name "$name.ko" -exec cp {} "$work/modules/" ';'
            [ -s "$work/modules/$name.ko" ] || die "the package $package has no module $name.ko (see $work)."
        done
        # Renames, so that another run never sees half a file. Modules fit one kernel only: both are of this package.
        rm -rf "$cache/modules"
        mv -T "$work/modules" "$cache/modules"
        mv "$work"/tree/boot/vmlinuz-* "$cache/vmlinuz"
        rm -rf "$work"
    fi
}

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1
}

# unpack PACKAGE: downloads a Debian package, unpacks it in the folder tree/ of a new folder and prints that one.
unpack() {
    local cache work
    cache=$(image_cache)
    # What is printed to standard output is the folder.
    step "getting $1 (unpacked in ${cache#"$REPO"/}, not installed)" >&2
    work=$(mktemp -d "$cache/package.XXXXXX")
    if ! (cd "$work" &&
        { package_download "$1" || { timeout 300 apt-get update && package_download "$1"; }; } &&
        dpkg-deb -x ./*.deb tree) >"$work/log" 2>&1; then
        tail -n 5 "$work/log" >&2
        rm -rf "$work"
        die "apt could not download $1."
    fi
    printf '%s\n' "$work"
}

package_download() {
    timeout 600 apt-get -o APT::Sandbox::User=root download "$1"
}

# package_file PACKAGE PATH: where a file of a Debian package lies, unpacked in the cache. Installed, `ipxe` would put
# itself into this machine's boot menu, and `systemd-boot-efi` would bring another systemd.
package_file() {
    local cache work
    cache=$(image_cache)
    if [ ! -d "$cache/$1" ]; then
        work=$(unpack "$1")
        # Another run may have been faster.
        mv -T "$work/tree" "$cache/$1" 2>/dev/null || true
        rm -rf "$work"
    fi
    [ -f "$cache/$1/$2" ] || die "the package $1 has no file $2 (see $cache/$1)."
    printf '%s\n' "$cache/$1/$2"
}

# uefi_firmware NAME: firmware for one machine, EDK2: its code at NAME.code, its variables at NAME.vars.
uefi_firmware() {
    local code vars
    code=$(package_file ovmf usr/share/OVMF/OVMF_CODE.fd)
    vars=$(package_file ovmf usr/share/OVMF/OVMF_VARS.fd)
    cp "$code" "$1.code"
    cp "$vars" "$1.vars"
}

# ipxe_uefi_image FILE: iPXE as a program for UEFI, on the network driver of the firmware.
ipxe_uefi_image() {
    local program
    program=$(package_file ipxe usr/lib/ipxe/snponly.efi)
    cp "$program" "$1"
}

# unified_image FILE KERNEL INITRAMFS: all in one program for UEFI, at FILE: the kernel, its initramfs and its command
# line, as sections of systemd's loader of such images.
unified_image() {
    local stub
    stub=$(package_file systemd-boot-efi usr/lib/systemd/boot/efi/linuxx64.efi.stub)
    printf 'console=ttyS0 panic=-1 quiet no_timer_check' >"$1.cmdline"
    # Each section at an address of its own, with room for what is in it: 16 MiB for the kernel.
    [ "$(stat -c %s "$2")" -lt $((0x1000000)) ] || die "the kernel is too big for the address of what follows it."
    objcopy --add-section .cmdline="$1.cmdline" --change-section-vma .cmdline=0x30000 \
        --add-section .linux="$2" --change-section-vma .linux=0x2000000 \
        --add-section .initrd="$3" --change-section-vma .initrd=0x3000000 "$stub" "$1"
    rm "$1.cmdline"
}

# random_payload FILE KIB: writes so many KiB at random there, so that no block of the file is like another, and prints
# their SHA-256.
random_payload() {
    local sum
    head -c "$(($2 * 1024))" /dev/urandom >"$1"
    sum=$(sha256sum <"$1")
    printf '%s\n' "${sum%% *}"
}

# initramfs_tree INIT: begins an initramfs in a folder, with busybox and files/INIT, and prints the folder.
initramfs_tree() {
    local tree=$LAB_DIR/initramfs
    mkdir -p "$tree"/{bin,proc,sys,dev}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    cp "$QEMU_DIR/files/$1" "$tree/init"
    chmod 755 "$tree/init" "$tree/bin/busybox"
    printf '%s\n' "$tree"
}

# initramfs_pack TREE FILE: packs it, and removes the folder.
initramfs_pack() {
    (cd "$1" && find . -print | sort | cpio --quiet -o -H newc -R 0:0) >"$2"
    rm -rf "$1"
}

# initramfs_image FILE KIB: makes an initramfs with a random payload of KIB KiB at FILE and prints the
# SHA-256 of the payload.
initramfs_image() {
    local tree sum
    tree=$(initramfs_tree init)
    sum=$(random_payload "$tree/payload" "$2")
    printf '%s  payload\n' "$sum" >"$tree/payload.sha256"
    initramfs_pack "$tree" "$1"
    printf '%s\n' "$sum"
}

# get_initramfs_image FILE TYPE SHA-256 [HOST]: makes an initramfs at FILE that waits until that file server (mtftp1) has a
# file `go`, fetches the boot item of that type by `mtftp-get`, and proves that it has this sum.
get_initramfs_image() {
    local tree
    tree=$(initramfs_tree init-get)
    mkdir "$tree/modules"
    kernel_modules "$tree/modules"
    printf '%s\n' "${NET_MODULES[@]}" >"$tree/modules/order"
    cp "$PXEMC_GET" "$tree/bin/mtftp-get"
    printf '%s %s %s\n' "${HOST_ADDRESS[${4:-mtftp1}]}" "$2" "$3" >"$tree/wanted"
    initramfs_pack "$tree" "$1"
    # iPXE has less to fetch.
    gzip -n "$1" && mv "$1.gz" "$1"
}
