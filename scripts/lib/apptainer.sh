# Apptainer in the newer userland of `userland.sh`, as a program `apptainer` of this machine's that a
# script in $MEDPERF_TEST_APPTAINER stands for. Source both, as root.

apptainer_folder=${MEDPERF_TEST_APPTAINER:-$(dirname "$userland_root")/bin}
# Whom it takes root for: it wants an ordinary user, and one that has a name there.
apptainer_user=1000

apptainer_answers() { "$apptainer_folder/apptainer" version >/dev/null 2>&1; }

# apptainer_up: fails if what it wrote does not run.
apptainer_up() {
    mkdir -p "$userland_root/oldroot" "$apptainer_folder"
    chroot "$userland_root" id "$apptainer_user" >/dev/null 2>&1 ||
        chroot "$userland_root" useradd --create-home --uid "$apptainer_user" someone
    # As udev makes it: without it every image would be unpacked for every run.
    [ ! -c /dev/fuse ] || chmod 666 /dev/fuse
    # It refuses a plain chroot. What lies in /tmp has the same owner on both sides, also root.
    sed -e "s|@ROOT@|$userland_root|g" -e "s|@USER@|$apptainer_user|g" \
        >"$apptainer_folder/apptainer.part" <<'SCRIPT'
#!/bin/sh
user=$(id -u) group=$(id -g)
[ "$user" != 0 ] || user=@USER@ group=@USER@
exec unshare --user --map-root-user --mount --propagation private sh -c '
    user=$1 group=$2 here=$PWD
    shift 2
    {
        mount --rbind "@ROOT@" "@ROOT@" && mount --rbind /proc "@ROOT@/proc" &&
            cd "@ROOT@" && pivot_root . oldroot && cd / && umount -l oldroot
    } || exit 125
    cd "$here" 2>/dev/null || cd /tmp
    exec unshare --user --map-user="$user" --map-group="$group" apptainer "$@"
' sh "$user" "$group" "$@"
SCRIPT
    chmod 755 "$apptainer_folder/apptainer.part"
    mv "$apptainer_folder/apptainer.part" "$apptainer_folder/apptainer"
    apptainer_answers && return 0
    echo "apptainer: it does not run:" >&2
    "$apptainer_folder/apptainer" version >&2
}
