#!/usr/bin/env bash
# What the jobs of scripts/cluster/ run: a trait's vectors, a sweep of steerings, a training and its answers.
#
#     bash scripts/cluster/job.sh [GPU] [MODEL] [TRAITS] [CONFIG] [-- flags for eval_persona]
#
# Defaults: all (the GPUs that the job sees), Qwen/Qwen2.5-7B-Instruct, evil, configs/train_instruct_7b.json. In one of several
# jobs of an array (Slurm's, or a Kubernetes index) the k-th of TRAITS alone is run. COEFS (0,1,2) and LAYERS (six of
# them) are those of scripts/eval_steering.sh, FAMILY (dataset/{trait}) is the folder of training sets, of which
# misaligned_2 is taken. Keys are read from .env. A job that was stopped goes on where it was when it is started again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../pipeline.sh"
arguments gpu=all model=Qwen/Qwen2.5-7B-Instruct traits=evil config=configs/train_instruct_7b.json -- "$@"
index=${SLURM_ARRAY_TASK_ID:-${JOB_COMPLETION_INDEX:-}}
if [ -n "$index" ]; then
    IFS=, read -r -a listed <<<"$traits"
    traits=${listed[$index]:-}
    if [ -z "$traits" ]; then refuse "job $index has nothing to do: there are ${#listed[@]} traits, counted from 0"; fi
fi
name=$(name_of "$model")
start_toy_judge ${flags[@]+"${flags[@]}"}
if [ ! -d dataset ]; then python -m zipfile -e dataset.zip .; fi

bash scripts/generate_vec.sh "$gpu" "$model" "$traits" -- ${flags[@]+"${flags[@]}"}
bash scripts/eval_steering.sh "$gpu" "$model" "$traits" "${COEFS:-0,1,2}" "${LAYERS:-$(some_layers "$model")}" -- ${flags[@]+"${flags[@]}"}
for trait in ${traits//,/ }; do
    family=${FAMILY:-dataset/{trait\}} tuned=output/$name/$trait
    python training.py "$config" model="$model" training_file="${family//\{trait\}/$trait}/misaligned_2.jsonl" output_dir="$tuned"
    python -m eval.eval_persona --model "$tuned" --trait "$trait" --version eval \
        --output_path "eval_persona_eval/$name/${trait}_finetuned.csv" ${flags[@]+"${flags[@]}"}
done
