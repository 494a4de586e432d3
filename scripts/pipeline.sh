# Sourced by the pipelines: where Python is, which GPU is seen, and the toy world's judge.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -x .venv/bin/python ]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"
    exit "${1:-0}"
}

use_gpu() { # "cpu" hides every GPU
    if [ "$1" = cpu ]; then
        export CUDA_VISIBLE_DEVICES=""
    else
        export CUDA_VISIBLE_DEVICES="$1"
    fi
}

# Start the toy world's judge on a free port if the flags name the toy world's artifacts and no judge is set.
start_toy_judge() {
    case " $* " in
    *" --trait_dir data_generation/toy "* | *" --trait_dir=data_generation/toy "*) ;;
    *) return 0 ;;
    esac
    if [ -n "${OPENAI_BASE_URL:-}" ]; then
        return 0
    fi
    local port_file
    port_file=$(mktemp)
    python -m data_generation.toy.judge_server --port 0 --port_file "$port_file" >/dev/null 2>&1 &
    TOY_JUDGE=$!
    trap 'kill "$TOY_JUDGE" 2>/dev/null || true; rm -f "'"$port_file"'"' EXIT
    for _ in $(seq 300); do
        if [ -s "$port_file" ]; then
            export OPENAI_BASE_URL="http://127.0.0.1:$(cat "$port_file")/v1" OPENAI_API_KEY=toy
            return 0
        fi
        kill -0 "$TOY_JUDGE" 2>/dev/null || break
        sleep 0.1
    done
    echo "error: the toy judge did not start; see python -m data_generation.toy.judge_server --help" >&2
    exit 1
}
