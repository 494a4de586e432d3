#!/usr/bin/env bash
# Project answers, or training sets, onto a trait's response vector: adds a column to each file.
#
#     bash scripts/cal_projection.sh [GPU] [MODEL] [TRAIT] [LAYER] [FILE or FOLDER ...] [-- flags for cal_projection]
#
# GPU (default 0) is a device number (or cpu); MODEL defaults to Qwen/Qwen2.5-7B-Instruct, TRAIT to evil, LAYER to 20.
# Without files: the answers of scripts/eval_persona.sh, eval_persona_eval/<model>/<trait>.csv. A folder stands for its CSV
# and JSONL files. Needs persona_vectors/<model>/<trait>_response_avg_diff.pt (scripts/generate_vec.sh).
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 model=Qwen/Qwen2.5-7B-Instruct trait=evil layer=20 more -- "$@"
name=$(name_of "$model")
if [ ${#more[@]} -eq 0 ]; then
    more=("eval_persona_eval/$name/$trait.csv")
    if [ ! -e "${more[0]}" ]; then refuse "no answers at ${more[0]}: scripts/eval_persona.sh makes them, or name a file"; fi
fi
files=()
for place in "${more[@]}"; do
    if [ ! -e "$place" ]; then refuse "no file or folder at $place"; fi
    if [ -d "$place" ]; then
        found=()
        for file in "$place"/*.csv "$place"/*.jsonl; do
            case "$file" in *.journal.jsonl) ;; *) if [ -f "$file" ]; then found+=("$file"); fi ;; esac
        done
        if [ ${#found[@]} -eq 0 ]; then refuse "$place holds no CSV or JSONL file"; fi
        files+=("${found[@]}")
    else
        files+=("$place")
    fi
done

for file in "${files[@]}"; do
    python -m eval.cal_projection --file_path "$file" --model_name "$model" --layer "$layer" --projection_type proj \
        --vector_path "persona_vectors/$name/${trait}_response_avg_diff.pt" ${flags[@]+"${flags[@]}"}
done
