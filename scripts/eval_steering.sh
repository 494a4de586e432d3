#!/usr/bin/env bash
# Steer with a trait's response vector over coefficients and layers, judge, and draw the curves.
#
#     bash scripts/eval_steering.sh [GPU] [MODEL] [TRAIT] [COEFS] [LAYERS] [-- flags for eval_persona]
#
# GPU (default 0) is a device number (or 0,1, or cpu). Defaults: Qwen/Qwen2.5-7B-Instruct, evil, 0,0.5,1,1.5,2,2.5 and 20.
# Needs persona_vectors/<model>/<trait>_response_avg_diff.pt (scripts/generate_vec.sh). Answers go to
# eval_persona_eval/<model>/<trait>_steering_layer<LAYERS>_coef<COEFS>.csv, the figure and the best layer beside them.
# With  -- --steering LIST.json  the list's vectors act together, at its own layers, COEFS times its coefficients; answers go to
# <trait>_steering_<LIST>_coef<COEFS>.csv.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 model=Qwen/Qwen2.5-7B-Instruct trait=evil coefs=0,0.5,1,1.5,2,2.5 layers=20 -- "$@"
start_toy_judge ${flags[@]+"${flags[@]}"}
name=$(name_of "$model")
what=layer${layers}
vectors=(--layer "$layers" --steering_type response --vector_path "persona_vectors/$name/{trait}_response_avg_diff.pt")
list=$(value_of --steering ${flags[@]+"${flags[@]}"})
if [ -n "$list" ]; then what=$(basename "$list" .json) vectors=(); fi
answers="eval_persona_eval/$name/{trait}_steering_${what}_coef${coefs}.csv"

python -m eval.eval_persona --model "$model" --trait "$trait" --version eval --output_path "$answers" \
    --coef "$coefs" ${vectors[@]+"${vectors[@]}"} ${flags[@]+"${flags[@]}"}

if [ -n "$list" ]; then layers=""; fi
case "$coefs$layers" in *,*) ;; *) exit 0 ;; esac # one cell has no curve
python -m eval.select_layer --file_path "$answers" --trait "$trait" $(coherence_flags ${flags[@]+"${flags[@]}"})
