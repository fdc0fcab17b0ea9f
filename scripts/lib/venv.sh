# Sourced: `use_venv EXTRAS` makes .venv with this tree's package in it and puts it on PATH.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.10 or newer is needed, with its venv module." >&2
    return 1
}

use_venv() {
    local python
    if [ ! -x "$root/.venv/bin/python" ]; then
        python=$(find_python)
        echo "Making $root/.venv" >&2
        "$python" -m venv "$root/.venv" || {
            echo "Python's venv module is needed (Debian: apt-get install python3-venv)." >&2
            return 1
        }
    fi
    echo "Installing MedPerf Offline and what it needs" >&2
    "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check "$root$1"
    export PATH="$root/.venv/bin:$PATH"
}
