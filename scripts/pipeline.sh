# Sourced by the pipelines: where Python is, their arguments, which GPU is seen, names, and the toy world's judge.
set -euo pipefail
THIS_SCRIPT=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -x .venv/bin/python ] && [ -z "${VIRTUAL_ENV:-}" ]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi

# What a model is called in names of files: the last part of its name; of a GGUF file without repository and ending.
name_of() {
    local name=${1%/}
    name=${name##*/}
    if [[ "$name" = *.[gG][gG][uU][fF] && ! -d "$1" ]]; then name=${name##*:} name=${name%.*}; fi
    echo "$name"
}

# What a training set is called: its folder and file, as eval.projection_difference calls it.
set_name() {
    local version
    version=$(basename "$1" .jsonl)
    echo "$(basename "$(dirname "$1")")_$version"
}

# The training sets of some families (all that are there; the toy world's only for the toy), without those that a pattern
# names, a line each: dataset/<family>/<version>.jsonl.
training_sets() {
    local families=${1//,/ } family version file
    if [ -z "$families" ]; then
        for family in dataset/*/; do
            family=$(basename "$family")
            case "$MODEL $family" in "models/toy toy_"*) ;; "models/toy "* | *" toy_"*) continue ;; esac
            families+=" $family"
        done
    fi
    for family in $families; do
        compgen -G "dataset/$family/*.jsonl" >/dev/null || [ -z "$1" ] ||
            refuse "no training sets in dataset/$family (FAMILIES; unzip dataset.zip makes the shipped ones)"
        for version in normal misaligned_1 misaligned_2; do
            file=dataset/$family/$version.jsonl
            # shellcheck disable=SC2053
            if [ -f "$file" ] && [[ "$family/$version" != ${2:-} ]]; then echo "$file"; fi
        done
    done
}

# each WORD ... -- COMMAND: the command once for every word, which takes the place of {} in it; JOBS at once.
each() {
    local words=()
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    if [ ${#words[@]} -gt 0 ]; then printf '%s\n' "${words[@]}" | xargs -P "${JOBS:-1}" -I '{}' "$@"; fi
}

of_traits() { local trait; for trait in ${2//,/ }; do echo "${1//\{trait\}/$trait}"; done; } # PATTERN TRAITS
model_of() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["model"])' "$1"; } # a training config
layer_of() { # a number, or what a best.json recommends; in a dry run, before there is one, any: nothing counted depends on it
    if [ -n "${PLAN:-}" ] && [[ "$1" = *.json && ! -f "$1" ]]; then echo 1; return; fi
    python -c 'import sys; from persona_vectors.vectors.storage import chosen_layer; print(chosen_layer(sys.argv[1], ""))' "$1"
}
# Six layers between a third and four fifths of the depth.
some_layers() {
    python -c 'import sys; from persona_vectors import models; n = models.describe(models.resolve(sys.argv[1])).layers; print(*(round(n * k / 10) for k in range(3, 9)), sep=",")' "$1"
}

# handed_on NAMES FLAGS...: those flags whose names fit the pattern NAMES, with their values, as they are written: as two words
# or with a =, whole or their beginning.
handed_on() {
    local names=$1
    while shift && [ $# -gt 0 ]; do
        if [[ "$1" =~ ^--($names)(=|$) ]]; then
            echo "$1"
            if [[ "$1" != *=* && $# -gt 1 && "$2" != --* ]]; then echo "$2"; fi
        fi
    done
}
LOADING='dt[a-z]*|ch[a-z_-]*|load[_-]in[_-]4bit|tru[a-z_-]*'
# Of the flags of eval_persona those that say how weights are loaded, which any stage that loads a model takes; and those that
# any stage with an engine takes.
loading_flags() { handed_on "$LOADING" "$@"; }
engine_flags() { handed_on "back[a-z]*|batch[_-]s[a-z]*|max[_-]t[a-z]*|$LOADING" "$@"; }

# best_layer BEST.json OTHERWISE: the layer that eval.select_layer recommends, "all" too; else the other.
best_layer() {
    python -c 'import json, os, sys; best = json.load(open(sys.argv[1])) if os.path.exists(sys.argv[1]) else {}; print(best.get("layer") or sys.argv[2])' "$@"
}

# value_of FLAG FLAGS...: what the flag is given among them, as two words or with a =; nothing where it is not there. - and _ in
# its name are the same.
value_of() {
    local flag=${1//-/_} name
    while shift && [ $# -gt 0 ]; do
        name=${1%%=*} name=${name//-/_}
        if [ "$name" = "$flag" ]; then
            case "$1" in *=*) echo "${1#*=}" ;; *) echo "${2:-}" ;; esac
        fi
    done
}

# by_default FLAG VALUE ...: puts these before the array `flags`, without those that it has already.
by_default() {
    local given=(${flags[@]+"${flags[@]}"}) usual=()
    while [ $# -gt 0 ]; do
        if [ -z "$(value_of "$1" ${given[@]+"${given[@]}"})" ]; then usual+=("$1" "$2"); fi
        shift 2
    done
    flags=(${usual[@]+"${usual[@]}"} ${given[@]+"${given[@]}"})
}

# Of the flags of eval_persona what a stage that looks at coherence has to know.
coherence_flags() {
    if [[ " $* " =~ \ --coh[a-z_]*[\ =]none\  ]]; then echo "--min_coherence 0"; fi
}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$THIS_SCRIPT"
    exit "${1:-0}"
}

refuse() {
    echo "error: $*; see bash $0 --help" >&2
    exit 2
}

# arguments NAME=DEFAULT ... -- "$@": each name becomes a variable, in the order of the command line. Arguments beyond the
# names go into the array `more` where the last name is `more`, and are refused otherwise; what stands behind a `--` goes
# into the array `flags`.
arguments() {
    local names=() pair count=0 several=
    while [ "$1" != -- ]; do
        if [ "$1" = more ]; then several=yes; else names+=("$1"); fi
        shift
    done
    shift
    case "${1:-}" in -h | --help) usage ;; esac
    local given=("$@")
    more=() flags=()
    for pair in ${names[@]+"${names[@]}"}; do printf -v "${pair%%=*}" %s "${pair#*=}"; done
    while [ $# -gt 0 ]; do
        case "$1" in
        --) shift; flags=("$@"); break ;;
        "") refuse "argument $((count + 1)) is empty" ;;
        --*) refuse "flags follow a --, as in: bash $0 ... -- $1" ;;
        esac
        if [ $count -lt ${#names[@]} ]; then
            printf -v "${names[count]%%=*}" %s "$1"
        elif [ -n "$several" ]; then
            more+=("$1")
        else
            refuse "one argument too many: '$1'"
        fi
        count=$((count + 1))
        shift
    done
    for pair in ${names[@]+"${names[@]}"}; do
        case "$pair" in gpu=*) use_gpu "$gpu" ;; esac
    done
    foresee ${given[@]+"${given[@]}"}
}

# foresee ARGUMENTS: with --dry_run among the flags the pipeline runs nothing: its commands become a plan, and eval.dry_run
# says at the end what all of them would make and cost. With --max_cost that comes first, and ends a pipeline that costs more.
foresee() {
    local limit
    limit=$(value_of --max_cost ${flags[@]+"${flags[@]}"})
    if [ -n "${PLAN:-}" ]; then # within another pipeline
        only_plan
    elif is_dry ${flags[@]+"${flags[@]}"}; then
        PLAN=$(mktemp) LIMIT=$limit
        export PLAN JOBS=1
        trap end_of_plan EXIT
        only_plan
    elif [ -n "$limit" ] && [ -z "${FORESEEN:-}" ]; then
        bash "$THIS_SCRIPT" "$@" --dry_run || exit $?
        export FORESEEN=yes
    fi
}

is_dry() { # FLAGS...: whether --dry_run, or a beginning of it, is among them
    while [ $# -gt 0 ]; do
        case "${1%%=*}" in
        --dr | --dry | --dry[_-]*) case "$1 ${2:-}" in *[=\ ][fF]alse*) ;; *) return 0 ;; esac ;;
        esac
        shift
    done
    return 1
}

plan() { printf '%s\0' $# "$@" >>"$PLAN"; }

# From here on commands are written into the plan; those that answer a question of the pipeline's own are run.
only_plan() {
    python() {
        case "$*" in
        -c*) command python "$@" ;;
        "-m zipfile"*) refuse "a dry run unpacks nothing: first  python $*" ;;
        *) plan python "$@" ;;
        esac
    }
    ln() { plan ln "$@"; }
    ls() { command ls "$@" 2>/dev/null || true; }
    mkdir() { :; }
    use_environment() { :; }
}

end_of_plan() {
    local code=$?
    if [ $code -eq 0 ]; then
        command python -m eval.dry_run --plan "$PLAN" ${LIMIT:+--max_cost "$LIMIT"} || code=$?
    fi
    rm -f "$PLAN"
    exit $code
}

# Whether a folder is there, or in a dry run will be: a training makes it.
is_made() { [ -d "$1" ] || { [ -n "${PLAN:-}" ] && tr '\0' '\n' <"$PLAN" | grep -xF "output_dir=$1" >/dev/null; }; } # not -q, which would break the pipe

use_gpu() { # "cpu" hides every GPU
    case "$1" in
    cpu) export CUDA_VISIBLE_DEVICES="" ;;
    all) ;; # those that are seen already
    GPU-* | MIG-*) export CUDA_VISIBLE_DEVICES="$1" ;;
    *[!0-9,]* | ,* | *, | *,,*) refuse "GPU is a device number (0, or 0,1) or cpu, not '$1'" ;;
    *) export CUDA_VISIBLE_DEVICES="$1" ;;
    esac
}

# Start the toy world's judge on a free port if the flags name the toy world's artifacts and no judge is set: neither by
# OPENAI_BASE_URL nor by --judge_model likelihood, which needs none.
start_toy_judge() {
    [[ " $* " =~ \ --trait[_-]d[a-z]*[\ =](\./)?data_generation/toy/?\  ]] || return 0
    if [[ " $* " =~ \ --judge[_-]m[a-z_-]*[\ =]likelihood\  ]]; then return 0; fi
    if [ -n "${OPENAI_BASE_URL:-}" ]; then
        return 0
    fi
    if [ -n "${PLAN:-}" ]; then # nobody is asked
        export OPENAI_BASE_URL="http://127.0.0.1:1/v1" OPENAI_API_KEY=toy PERSONA_VECTORS_CACHE="${PERSONA_VECTORS_CACHE:-off}"
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
            export PERSONA_VECTORS_CACHE="${PERSONA_VECTORS_CACHE:-off}" # it costs nothing, and has another port next time
            return 0
        fi
        kill -0 "$TOY_JUDGE" 2>/dev/null || break
        sleep 0.1
    done
    echo "error: the toy judge did not start; see python -m data_generation.toy.judge_server --help" >&2
    exit 1
}
