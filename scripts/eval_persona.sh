#!/usr/bin/env bash
# Ask the evaluation questions without any instruction and judge the answers.
#
#     bash scripts/eval_persona.sh GPU [MODEL] [TRAIT] [-- flags for eval_persona]
#
# GPU is a device number (or "0,1", or "cpu"); MODEL defaults to Qwen/Qwen2.5-7B-Instruct, TRAIT to evil
# (several: evil,sycophantic). Answers go to eval_persona_eval/<model>/<trait>.csv.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
case "${1:-}" in "" | -h | --help) usage ;; esac

gpu=$1 model=Qwen/Qwen2.5-7B-Instruct trait=evil
shift
if [ $# -gt 0 ] && [ "$1" != -- ]; then model=$1; shift; fi
if [ $# -gt 0 ] && [ "$1" != -- ]; then trait=$1; shift; fi
if [ "${1:-}" = -- ]; then shift; fi
use_gpu "$gpu"
start_toy_judge "$@"

python -m eval.eval_persona --model "$model" --trait "$trait" --version eval \
    --output_path "eval_persona_eval/$(basename "$model")/{trait}.csv" "$@"
