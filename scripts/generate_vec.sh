#!/usr/bin/env bash
# Ask, judge, extract: persona vectors of one or more traits, in one model load.
#
#     bash scripts/generate_vec.sh [GPU] [MODEL] [TRAIT ...] [-- flags for eval_persona]
#
# GPU (default 0) is a device number (or 0,1, or cpu); MODEL defaults to Qwen/Qwen2.5-7B-Instruct, TRAIT to evil.
# Answers go to eval_persona_extract/<model>/<trait>_{pos,neg}_instruct.csv, vectors to persona_vectors/<model>/.
# For example:  bash scripts/generate_vec.sh 0 meta-llama/Llama-3.1-8B-Instruct evil sycophantic -- --n_per_question 5
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 model=Qwen/Qwen2.5-7B-Instruct trait=evil more -- "$@"
traits=$(IFS=,; echo "$trait${more[*]+,${more[*]}}") # "evil sycophantic" is evil,sycophantic
name=$(name_of "$model") answers=eval_persona_extract/$(name_of "$model")
if [ -f "persona_vectors/$name/__init__.py" ]; then
    refuse "persona_vectors/$name is a folder of this toolkit's code: call the model's folder something else"
fi
start_toy_judge ${flags[@]+"${flags[@]}"}

python -m eval.eval_persona --model "$model" --trait "$traits" --output_path "$answers/{trait}_{type}_instruct.csv" \
    --persona_instruction_type pos,neg --version extract ${flags[@]+"${flags[@]}"}
python generate_vec.py --model_name "$model" --trait "$traits" --save_dir "persona_vectors/$name/" \
    --pos_path "$answers/{trait}_pos_instruct.csv" --neg_path "$answers/{trait}_neg_instruct.csv" \
    $(coherence_flags ${flags[@]+"${flags[@]}"}) $(loading_flags ${flags[@]+"${flags[@]}"})
