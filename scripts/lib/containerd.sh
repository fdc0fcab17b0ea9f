# Docker with the containerd image store, as every new Docker has it, in the newer userland of
# `userland.sh`. Source both, as root; paths of mounts are the userland's own.

containerd_host=unix://$userland_root/run/docker2.sock
containerd_log=$userland_root/var/log/docker2.log

containerd_answers() { docker --host "$containerd_host" version >/dev/null 2>&1; }

# containerd_up: fails if the engine ends, or does not answer within a minute.
containerd_up() {
    containerd_answers && return 0
    mkdir -p "$userland_root/etc/docker"
    cat >"$userland_root/etc/docker/daemon.json" <<'JSON'
{"features": {"containerd-snapshotter": true}, "data-root": "/var/lib/docker2",
 "exec-root": "/run/docker2", "pidfile": "/run/docker2.pid", "hosts": ["unix:///run/docker2.sock"],
 "bridge": "none", "iptables": false, "ip6tables": false}
JSON
    # What an engine that was killed left: it would take whoever has those numbers now for its own.
    containerd_down
    userland_unmount "$userland_root/run/docker2"
    rm -rf "$userland_root/run/docker2" "$userland_root/run/docker2.sock"
    setsid chroot "$userland_root" dockerd >"$containerd_log" 2>&1 </dev/null {lock}>&- &
    local pid=$! waited
    for waited in $(seq 120); do
        containerd_answers && return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.5
    done
    kill "$pid" 2>/dev/null || true
    echo "containerd: it does not start; the end of $containerd_log:" >&2
    tail -n 20 "$containerd_log" >&2
    return 1
}

# containerd_down: stop both its processes, of which one may have outlived the other.
containerd_down() {
    containerd_stop dockerd "$userland_root/run/docker2.pid"
    containerd_stop containerd "$userland_root/run/docker2/containerd/containerd.pid"
}

# containerd_stop NAME FILE: stop the process of that number, if it is one of that name in the userland.
containerd_stop() {
    local pid
    if pid=$(cat "$2" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] &&
        [ "/proc/$pid/root" -ef "$userland_root" ]; then
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    fi
    rm -f "$2"
}
