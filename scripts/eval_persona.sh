#!/usr/bin/env bash
# Ask the evaluation questions without any instruction and judge the answers.
#
#     bash scripts/eval_persona.sh [GPU] [MODEL] [TRAIT] [-- flags for eval_persona]
#
# GPU (default 0) is a device number (or 0,1, or cpu); MODEL defaults to Qwen/Qwen2.5-7B-Instruct, TRAIT to evil
# (several: evil,sycophantic). Answers go to eval_persona_eval/<model>/<trait>.csv.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 model=Qwen/Qwen2.5-7B-Instruct trait=evil -- "$@"
start_toy_judge ${flags[@]+"${flags[@]}"}

python -m eval.eval_persona --model "$model" --trait "$trait" --version eval \
    --output_path "eval_persona_eval/$(name_of "$model")/{trait}.csv" ${flags[@]+"${flags[@]}"}
