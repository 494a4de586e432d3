#!/usr/bin/env bash
# Finetune on data that shows a trait, and prevent or undo what that does: the paper's sections 4 and 5 as one table.
#
#     bash scripts/mitigation.sh [GPU] [CONFIG] [TRAITS] [COEFS] [LAYER] [-- flags for eval_persona]
#
# GPU (default 0) is a device number (or cpu), LAYER a number or a best.json of eval.select_layer. Defaults:
# configs/train_toy.json, evil,sycophantic,hallucinating, 1,1.5,2 and 2, with the toy world's flags. MODEL takes the place of the
# config's. For every trait and every seed of SEEDS ("0 1 2"): the plain finetune on normal,
# misaligned_1 and misaligned_2; on misaligned_2 also preventative steering and the control, a random vector of the
# same norm, at each coefficient, and CAFT; and the plain one steered at inference. FAMILY is the folder of a trait's
# training sets. Needs persona_vectors/<model>/<trait>_response_avg_diff.pt (scripts/generate_vec.sh). Everything goes
# to output/mitigation/<model>/, a rerun does what is missing, and eval.mitigation makes the table and the figure.
# CAPABILITY are tasks of eval.capability that every model, and steering at inference, is put to (perplexity,refusals; an empty
# one measures nothing). kl tells nothing of a finetune: it is the distance from the same model unsteered.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
arguments gpu=0 config=configs/train_toy.json traits=evil,sycophantic,hallucinating coefs=1,1.5,2 layer=2 -- "$@"
if [ ${#flags[@]} -eq 0 ] && [ "$config" = configs/train_toy.json ]; then
    flags=(--trait_dir data_generation/toy --backend hf --n_per_question 2 --max_tokens 128 --batch_size 200)
fi
case "$config" in *toy*) family=${FAMILY:-dataset/toy_{trait\}} ;; *) family=${FAMILY:-dataset/{trait\}} ;; esac
start_toy_judge ${flags[@]+"${flags[@]}"}
model=${MODEL:-$(model_of "$config")} layer=$(layer_of "$layer")
capability=${CAPABILITY-perplexity,refusals}
name=$(name_of "$model") root=output/mitigation/$(name_of "$model")
if [ ! -d dataset ]; then python -m zipfile -e dataset.zip .; fi

train() { # folder, training set, fields of the config ...
    local folder=$1 set=$2
    shift 2
    python training.py "$config" model="$model" output_dir="$folder" training_file="${family/\{trait\}/$trait}/$set.jsonl" seed="$seed" "$@"
}

ask() { # model, answers, flags ...
    local asked=$1 answers=$2
    shift 2
    python -m eval.eval_persona --model "$asked" --trait "$trait" --version eval --output_path "$answers" \
        --seed "$seed" ${flags[@]+"${flags[@]}"} "$@"
}

price() { # model, arm, flags ...: what a finetuning, or a steering of it, costs
    local of=$1 arm=$2
    shift 2
    if [ -z "$capability" ]; then return; fi
    python -m eval.capability --model "$of" --tasks "$capability" --output "$folder/capability/$arm" \
        $(loading_flags ${flags[@]+"${flags[@]}"}) "$@"
}

for seed in ${SEEDS:-0 1 2}; do
    for trait in ${traits//,/ }; do
        vector=persona_vectors/$name/${trait}_response_avg_diff.pt
        folder=$root/$trait/seed$seed
        random=$folder/random.pt
        python -m eval.mitigation random --vector_path "$vector" --output_path "$random" --seed "$seed"
        ask "$model" "$folder/base.csv"
        price "$model" base
        for level in normal misaligned_1 misaligned_2; do
            train "$folder/plain_$level" $level
            ask "$folder/plain_$level" "$folder/plain_$level.csv"
            if [ $level != misaligned_2 ]; then price "$folder/plain_$level" plain_$level; fi # that one's comes with inference
        done
        steer=(enable_steering_during_training=true "steering_config.layers=[$layer]")
        for coef in ${coefs//,/ }; do
            for kind in steer random; do
                if [ $kind = random ]; then used=$random; else used=$vector; fi
                train "$folder/${kind}_$coef" misaligned_2 "${steer[@]}" steering_config.steering_coef="$coef" \
                    steering_config.steering_vector_path="$used"
                ask "$folder/${kind}_$coef" "$folder/${kind}_$coef.csv"
                price "$folder/${kind}_$coef" "${kind}_$coef"
            done
        done
        train "$folder/ablate" misaligned_2 "${steer[@]}" steering_config.type=ablate \
            steering_config.steering_vector_path="$vector"
        ask "$folder/ablate" "$folder/ablate.csv"
        price "$folder/ablate" ablate
        minus=$(python -c 'import sys; print(",".join(str(-float(c)) for c in sys.argv[1].split(",")))' "$coefs")
        ask "$folder/plain_misaligned_2" "$folder/inference.csv" --layer "$layer" --coef "0,$minus" --vector_path "$vector"
        price "$folder/plain_misaligned_2" inference --layer "$layer" --coef "0,$minus" --vector_path "$vector"
    done
done
python -m eval.mitigation report --folder "$root"
