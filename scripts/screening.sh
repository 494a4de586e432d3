#!/usr/bin/env bash
# Does the projection difference tell which rows would teach a trait? Train on the highest, the lowest, and any (section 6).
#
#     bash scripts/screening.sh [GPU] [TRAIT] [LAYER] [FOLDER] [-- flags for eval_persona]
#
# Defaults: 0, evil, 20, output/screening. LAYER is a number or a best.json of eval.select_layer. The set is misaligned_1 of
# the trait's family; K rows are selected (500; at most a third of the set). Needs the trait's vector
# (scripts/generate_vec.sh). MODEL, CONFIG, SEEDS and FAMILY are those of scripts/mitigation.sh. Everything goes to
# FOLDER/selected/<trait>/.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 trait=evil layer=20 folder=output/screening -- "$@"
: "${CONFIG:=configs/train_instruct_7b.json}" "${MODEL:=$(model_of "$CONFIG")}" "${SEEDS:=0}" "${FAMILY:=dataset/{trait\}}" "${K:=500}"
start_toy_judge ${flags[@]+"${flags[@]}"}
mixed=${FAMILY//\{trait\}/$trait}/misaligned_1.jsonl out=$folder/selected/$trait
third=$(($(grep -c . "$mixed") / 3)) k=$K
if [ "$k" -gt "$third" ]; then k=$third; fi
python -m eval.projection_difference --file_path "$mixed" --model_name "$MODEL" --layer "$layer" \
    --vector_path "persona_vectors/$(name_of "$MODEL")/${trait}_response_avg_diff.pt" \
    --output_dir "$out" --select high,random,low --k "$k" $(engine_flags ${flags[@]+"${flags[@]}"})
for end in high random low; do
    python training.py "$CONFIG" model="$MODEL" training_file="$(ls "$out"/*_"${end}_$k".jsonl)" seed="${SEEDS%% *}" output_dir="$out/$end"
    python -m eval.eval_persona --model "$out/$end" --trait "$trait" --version eval --output_path "$out/$end.csv" ${flags[@]+"${flags[@]}"}
done
