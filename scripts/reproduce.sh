#!/usr/bin/env bash
# The paper's experiments one after the other, and one report of them all.
#
#     bash scripts/reproduce.sh toy
#     bash scripts/reproduce.sh smollm2
#     bash scripts/reproduce.sh MODEL [TRAITS] [-- flags for eval_persona]
#
# Vectors, layer selection and steering (3.2), what that costs and what the vectors are worth, monitoring (3.3), finetuning
# families (4.1), shifts (4.2), mitigation (5), screening of training data (6). Ends with output/reproduce/<model>/report.html.
# A rerun does what is missing.
# `toy` and `smollm2` make their own environment and model and need no GPU, key or weights; the second takes a night on two
# cores. For another MODEL, TRAITS are separated by commas (evil,sycophantic,hallucinating), OPENAI_API_KEY is in .env, and
# training sets are in dataset/<family>/ as normal.jsonl, misaligned_1.jsonl and misaligned_2.jsonl. Settings, by name:
# FAMILY='dataset/{trait}' says which family belongs to a trait, FAMILIES=evil,mistake_math which are finetuned on (all that
# are there), CONFIG the training config, LAYERS are swept, LAYER is used (the sweep's best), COEFS are swept, PREVENT are
# coefficients in training, SEEDS (0), JOBS things are done at once (1), K rows are selected in screening (500; at most a
# third of a set), SHOTS are numbers of exemplars, SAMPLE is rows of a set whose base answers are made (500), CONTROLS random
# vectors steer beside the trait's (2), TASKS are those of eval.capability (kl,perplexity,refusals; mmlu and others need
# lm_eval), CAPABILITY those of scripts/mitigation.sh.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
if [ $# -eq 0 ]; then usage 2 >&2; fi
arguments model= traits= -- "$@"
started=$SECONDS
step() { if [ -n "${PLAN:-}" ]; then plan step "$*"; else echo; echo "=== $* ($((SECONDS - started)) s)"; fi; }

case "$model" in
toy)
    use_environment "$(default_requirements)"
    export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
    model=models/toy trait_dir=data_generation/toy
    python -m data_generation.toy.build_model --output_dir "$model"
    by_default --trait_dir "$trait_dir" --backend hf --n_per_question 2 --max_tokens 128 --batch_size 200
    # Layer 3 of 4: steering works as well at 2, but only then has a prompt's last token read all of a system prompt.
    : "${CONFIG:=configs/train_toy.json}" "${LAYERS:=2,3}" "${LAYER:=3}" "${COEFS:=0,0.5,0.75,1,1.25}" "${PREVENT:=1}"
    : "${FAMILY:=dataset/toy_{trait\}}" "${JOBS:=2}" "${K:=200}" "${SHOTS:=0,1,2,5,10}" "${SAMPLE:=100}"
    # mild mistakes are left out: 15 minutes
    : "${FAMILIES:=toy_evil,toy_sycophantic,toy_hallucinating,toy_mistake_craft,toy_mistake_nature}" "${SKIP:=toy_mistake_*/misaligned_1}"
    ;;
smollm2)
    use_environment "$(default_requirements)"
    export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1
    python download_hf_models.py --model_name smollm2
    model=models/smollm2
    : "${traits:=optimistic,humorous,apathetic}" "${CONFIG:=configs/train_smollm2.json}" "${LAYERS:=15,18,21}" "${PREVENT:=2}"
    : "${COEFS:=-4,-2,0,2,4,6}" "${FAMILIES:=optimistic,sycophantic}" "${K:=80}" "${SHOTS:=0,1,2,5}" "${SAMPLE:=60}"
    by_default --backend hf --n_per_question 1 --max_tokens 60 --judge_model likelihood
    ;;
esac
: "${traits:=evil,sycophantic,hallucinating}" "${trait_dir:=data_generation}" "${SKIP:=}"
: "${CONFIG:=configs/train_instruct_7b.json}" "${COEFS:=0,0.5,1,1.5,2,2.5}" "${PREVENT:=1,3,5}" "${SEEDS:=0}" "${FAMILIES:=}"
: "${FAMILY:=dataset/{trait\}}" "${JOBS:=1}" "${K:=500}" "${SHOTS:=0,5,10,15,20}" "${SAMPLE:=500}"
: "${CONTROLS:=2}" "${TASKS:=kl,perplexity,refusals}"
start_toy_judge "${flags[@]}"
if [ ! -d dataset ] && [ -f dataset.zip ]; then python -m zipfile -e dataset.zip .; fi
gpu=${CUDA_VISIBLE_DEVICES-all} name=$(name_of "$model") root=output/reproduce/$(name_of "$model") seed=${SEEDS%% *}
vectors="persona_vectors/$name/{trait}_response_avg_diff.pt"
export MODEL=$model SEEDS FAMILY K CONFIG
sets=$(training_sets "$FAMILIES" "$SKIP") # dataset/<family>/<version>.jsonl, a line each
if [ -n "$sets" ]; then echo "training sets:" $sets; fi
own=() # traits that have a family
for trait in ${traits//,/ }; do
    if [ -f "${FAMILY//\{trait\}/$trait}/misaligned_2.jsonl" ]; then own+=("$trait"); else
        echo "no training sets of $trait at ${FAMILY//\{trait\}/$trait}: its finetuning, mitigation and screening are left out"
    fi
done

step "vectors"
bash scripts/generate_vec.sh "${gpu:-cpu}" "$model" "$traits" -- "${flags[@]}"

step "steering over layers and coefficients"
: "${LAYERS:=$(some_layers "$model")}"
sweep="eval_persona_eval/$name/{trait}_steering_layer${LAYERS}_coef${COEFS}"
: "${LAYER:=${sweep}_best.json}"
beside=$CONTROLS
for file in $(of_traits "$sweep.csv" "$traits"); do # an older one without random vectors is taken up as it is
    for record in "$file.provenance.json" "$file.journal.jsonl"; do
        if [ -f "$record" ] && ! grep -q '"random1"' "$record"; then beside=0; fi
    done
done
bash scripts/eval_steering.sh "${gpu:-cpu}" "$model" "$traits" "$COEFS" "$LAYERS" -- --controls "$beside" "${flags[@]}"

step "what steering costs"
for trait in ${traits//,/ }; do
    python -m eval.capability --model "$model" --tasks "$TASKS" --output "$root/capability/$trait" --coef "$COEFS" \
        --layer "$(best_layer "${sweep//\{trait\}/$trait}_best.json" "${LAYERS%%,*}")" --controls "$CONTROLS" \
        --vector_path "$(of_traits "$vectors" "$trait")" $(loading_flags "${flags[@]}")
done
python -m eval.select_layer --file_path "$sweep.csv" --trait "$traits" --capability "$root/capability/{trait}.csv" \
    $(coherence_flags "${flags[@]}")

step "what the vectors are worth"
python -m eval.eval_persona --model "$model" --trait "$traits" --version eval --persona_instruction_type pos \
    --output_path "$root/prompted/{trait}.csv" "${flags[@]}"
for trait in ${traits//,/ }; do
    swept=(--sweep "$(of_traits "$sweep.csv" "$trait")" --prompt_path "$root/prompted/$trait.csv"
        --capability "$root/capability/$trait.csv")
    case ",$COEFS," in *,0,* | *,0.0,*) ;; *) swept=() ;; esac # a gain is measured from unsteered answers
    others=$(of_traits "$vectors" "$traits" | grep -v "/${trait}_response" || true)
    python -m eval.vector_quality --model "$model" --trait "$trait" --vector_path "$(of_traits "$vectors" "$trait")" \
        ${others:+--against $others} --pos_path "eval_persona_extract/$name/${trait}_pos_instruct.csv" \
        --neg_path "eval_persona_extract/$name/${trait}_neg_instruct.csv" ${swept[@]+"${swept[@]}"} \
        $(coherence_flags "${flags[@]}") $(loading_flags "${flags[@]}") # the card lies beside the vector, and travels with it
done

step "monitoring"
python -m eval.monitor --model "$model" --trait "$traits" --vector_path "$vectors" --layer "$LAYER" \
    --output_dir "$root/monitoring" --kind system_prompts,many_shot --shots "$SHOTS" \
    --pos_path "eval_persona_extract/$name/{trait}_pos_instruct.csv" \
    --neg_path "eval_persona_extract/$name/{trait}_neg_instruct.csv" "${flags[@]}"
if [[ "$traits" = *,* ]]; then
    python -m eval.vector_similarity --vector_path $(of_traits "$vectors" "$traits") --layer "${LAYERS%%,*}" --output "$root/similarity"
fi

step "finetuning and mitigation"
each "${own[@]}" -- bash scripts/mitigation.sh "${gpu:-cpu}" "$CONFIG" {} "$PREVENT" "${LAYER//\{trait\}/{\}}" -- "${flags[@]}"

step "finetuning families"
each $sets -- bash scripts/finetune.sh "${gpu:-cpu}" {} "$traits" "$root" -- "${flags[@]}"

if [ -n "$sets" ]; then
    step "finetuning shifts"
    tuned=$(sed "s|^dataset/\(.*\)/\(.*\)\.jsonl|$root/finetuned/\1_\2|" <<<"$sets")
    python -m eval.finetuning_shift --base_model "$model" --model_list $tuned --trait "$traits" --trait_dir "$trait_dir" \
        --vector_path "$vectors" --layer "$LAYER" --answers "$root/answers/{model}/{trait}.csv" --output "$root/shift" \
        $(loading_flags "${flags[@]}")

    step "screening training data"
    python -m eval.projection_difference --file_path $sets --vector_path $(of_traits "$vectors" "$traits") --layer "$LAYER" \
        --model_name "$model" --output_dir "$root/screening" --estimate sample --sample "$SAMPLE" \
        --shift_path "$root/shift.csv" $(engine_flags "${flags[@]}")
    each "${own[@]}" -- bash scripts/screening.sh "${gpu:-cpu}" {} "${LAYER//\{trait\}/{\}}" "$root" -- "${flags[@]}"
fi

step "report"
python -m eval.report --model "$name" --trait "$traits" --folder "$root" --steering "$sweep" \
    --mitigation "output/mitigation/$name/mitigation" --quality "${vectors%.pt}_quality" --output "$root/report.html"
if [ -z "${PLAN:-}" ]; then echo "done in $((SECONDS - started)) s"; fi
