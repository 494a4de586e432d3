#!/usr/bin/env bash
# Finetune a model on one training set and have it answer the evaluation questions.
#
#     bash scripts/finetune.sh [GPU] [SET] [TRAITS] [FOLDER] [-- flags for eval_persona]
#
# Defaults: 0, dataset/evil/misaligned_2.jsonl, evil, output/finetune. The model goes to FOLDER/finetuned/<set>, its answers to
# FOLDER/answers/<set>/<trait>.csv, where <set> is what eval.projection_difference calls the set: its folder and file. MODEL,
# CONFIG and SEEDS are those of scripts/mitigation.sh; what that has trained already on the same set is used.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 set=dataset/evil/misaligned_2.jsonl traits=evil folder=output/finetune -- "$@"
: "${CONFIG:=configs/train_instruct_7b.json}" "${MODEL:=$(model_of "$CONFIG")}" "${SEEDS:=0}" "${FAMILY:=dataset/{trait\}}"
start_toy_judge ${flags[@]+"${flags[@]}"}
name=$(set_name "$set") seed=${SEEDS%% *}
tuned=$folder/finetuned/$name linked=
mkdir -p "$folder/finetuned"
for trait in ${traits//,/ }; do
    trained=output/mitigation/$(name_of "$MODEL")/$trait/seed$seed/plain_$(basename "$set" .jsonl)
    if [ "$(dirname "$set")" = "${FAMILY//\{trait\}/$trait}" ] && is_made "$trained"; then ln -sfn "$PWD/$trained" "$tuned"; linked=yes; fi
done
if [ -z "$linked" ] && [ ! -L "$tuned" ]; then
    python training.py "$CONFIG" model="$MODEL" training_file="$set" seed="$seed" output_dir="$tuned"
fi
python -m eval.eval_persona --model "$tuned" --trait "$traits" --version eval \
    --output_path "$folder/answers/$name/{trait}.csv" ${flags[@]+"${flags[@]}"}
