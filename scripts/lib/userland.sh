# A newer userland beside the machine's own, in $MEDPERF_TEST_SID: engines as users have them by now,
# which the machine's own release does not. It shares /tmp with the machine. Source it, as root.

userland_root=${MEDPERF_TEST_SID:-/var/lib/medperf-test/sid}
# Apptainer mounts with the latter three what it may not mount itself.
userland_packages=(docker.io apptainer squashfuse fuse-overlayfs fuse2fs)

# userland_up: make it if it is not there, and mount what it needs to be one.
userland_up() {
    if [ ! -d "$userland_root" ]; then
        # Under another name until it is whole: whatever was interrupted is begun again.
        userland_forget "$userland_root.part"
        mkdir -p "$userland_root.part"
        debootstrap --variant=minbase sid "$userland_root.part" >&2
        userland_unmount "$userland_root.part"
        mv "$userland_root.part" "$userland_root"
    fi
    userland_mount
    cp /etc/resolv.conf "$userland_root/etc/resolv.conf"
    userland_has_packages || userland_install
}

userland_has_packages() {
    local states
    states=$(chroot "$userland_root" dpkg-query -W -f '${db:Status-Status}\n' \
        "${userland_packages[@]}" 2>/dev/null) || return 1
    ! grep -qvx installed <<<"$states"
}

userland_install() {
    # What a proxy or a mirror of this machine's needs is written there.
    cp /etc/apt/apt.conf.d/* "$userland_root/etc/apt/apt.conf.d/"
    # Nothing is started by its package.
    printf '#!/bin/sh\nexit 101\n' >"$userland_root/usr/sbin/policy-rc.d"
    chmod 755 "$userland_root/usr/sbin/policy-rc.d"
    chroot "$userland_root" dpkg --configure -a >&2
    chroot "$userland_root" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive chroot "$userland_root" \
        apt-get install -qq -y --no-install-recommends "${userland_packages[@]}" >&2
}

userland_mount() {
    local shared
    # Apptainer wants its root to be a mount point.
    mountpoint -q "$userland_root" || mount --bind "$userland_root" "$userland_root"
    mount --make-private "$userland_root"
    mountpoint -q "$userland_root/proc" || mount -t proc proc "$userland_root/proc"
    for shared in /sys /dev /tmp; do
        mountpoint -q "$userland_root$shared" && continue
        mount --rbind "$shared" "$userland_root$shared"
        # What is unmounted there stays mounted here.
        mount --make-rslave "$userland_root$shared"
    done
}

# userland_unmount FOLDER: also what an engine that was killed left mounted below it.
userland_unmount() {
    local folder
    while folder=$(userland_mounts "$1" | tail -n 1) && [ -n "$folder" ]; do
        umount --lazy "$folder" || return 1
    done
}

userland_mounts() {
    findmnt --list --noheadings --output TARGET |
        awk -v root="$1" '$0 == root || index($0, root "/") == 1'
}

# userland_forget FOLDER: delete what was begun. Never through a mount, which is this machine's.
userland_forget() {
    userland_unmount "$1"
    [ -z "$(userland_mounts "$1")" ] && rm -rf --one-file-system "$1"
}
