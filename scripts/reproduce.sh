#!/usr/bin/env bash
# The paper's experiments one after the other, and one report of them all.
#
#     bash scripts/reproduce.sh toy
#     bash scripts/reproduce.sh MODEL [TRAITS] [-- flags for eval_persona]
#
# Vectors, layer selection and steering (3.2), monitoring (3.3), finetuning families (4.1), shifts (4.2), mitigation (5),
# screening of training data (6). Ends with output/reproduce/<model>/report.html. A rerun does what is missing.
# `toy` makes its own environment and model and needs no GPU, key or weights. For another MODEL, TRAITS are separated by
# commas (evil,sycophantic,hallucinating), OPENAI_API_KEY is in .env, and training sets are in dataset/<family>/ as
# normal.jsonl, misaligned_1.jsonl and misaligned_2.jsonl; FAMILY='dataset/{trait}' says which family belongs to a trait, and
# FAMILIES=evil,mistake_math which families are finetuned on (all that are there: 24 trainings with those of dataset.zip).
# Other settings: CONFIG (configs/train_instruct_7b.json), LAYERS (swept), LAYER (used; the sweep's best), COEFS (swept),
# PREVENT (coefficients in training), SEEDS (0), JOBS (things done at once: 1, for the toy 2), K (rows selected in
# screening: 500, for the toy 200).
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
if [ $# -eq 0 ]; then usage 2 >&2; fi
arguments model= traits=evil,sycophantic,hallucinating -- "$@"
started=$SECONDS

if [ "$model" = toy ]; then
    use_environment "$(default_requirements)"
    model=models/toy
    export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
    flags=(--trait_dir data_generation/toy --backend hf --n_per_question 2 --max_tokens 128 --batch_size 200 "${flags[@]}")
    trait_dir=data_generation/toy
    # Layer 3 of 4: steering works as well at 2, but only then has a prompt's last token read all of a system prompt.
    : "${CONFIG:=configs/train_toy.json}" "${LAYERS:=2,3}" "${LAYER:=3}" "${COEFS:=0,0.5,0.75,1,1.25}" "${PREVENT:=1}" "${SEEDS:=0}"
    : "${FAMILY:=dataset/toy_{trait\}}" "${JOBS:=2}" "${K:=200}" "${SHOTS:=0,1,2,5,10}" "${SAMPLE:=100}"
else
    trait_dir=data_generation
fi
if [ "$model" = models/toy ]; then python -m data_generation.toy.build_model --output_dir "$model"; fi
start_toy_judge "${flags[@]}"
: "${CONFIG:=configs/train_instruct_7b.json}" "${COEFS:=0,0.5,1,1.5,2,2.5}" "${PREVENT:=1,3,5}" "${SEEDS:=0}"
: "${FAMILY:=dataset/{trait\}}" "${JOBS:=1}" "${K:=500}" "${SHOTS:=0,5,10,15,20}" "${SAMPLE:=500}"
: "${FAMILIES:=}"
export SEEDS FAMILY FAMILIES
if [ ! -d dataset ] && [ -f dataset.zip ]; then python -m zipfile -e dataset.zip .; fi
has_sets() { compgen -G "dataset/$1/*.jsonl" >/dev/null; }
for family in ${FAMILIES//,/ }; do
    has_sets "$family" || refuse "no training sets in dataset/$family (FAMILIES; unzip dataset.zip makes the shipped ones)"
done
if [ -z "$FAMILIES" ]; then
    for folder in dataset/*/; do
        family=$(basename "$folder")
        case "$model $family" in "models/toy toy_"*) ;; "models/toy "* | *" toy_"*) continue ;; esac
        if has_sets "$family"; then FAMILIES+=${FAMILIES:+,}$family; fi
    done
fi
name=$(name_of "$model") root=output/reproduce/$(name_of "$model") devices=${CUDA_VISIBLE_DEVICES-all}
if [ "$devices" = "" ]; then devices=cpu; fi
if [ "$devices" = all ]; then devices=$(python -c 'import torch; print(",".join(map(str, range(torch.cuda.device_count()))) or "cpu")'); fi
vector="persona_vectors/$name/{trait}_response_avg_diff.pt"
mkdir -p "$root"
python - "$CONFIG" "$model" "$root/training.json" <<'END'
import json, sys
json.dump(json.load(open(sys.argv[1])) | {"model": sys.argv[2]}, open(sys.argv[3], "w"), indent=4)
END

step() { echo; echo "=== $* ($((SECONDS - started)) s)"; }
running=()
wait_one() { # the oldest job; its failure is ours
    if [ ${#running[@]} -eq 0 ]; then return; fi
    wait "${running[0]}" || { echo "error: a step failed, see above" >&2; exit 1; }
    running=("${running[@]:1}")
}
together() { # run a command beside others, at most JOBS at once; its output comes in one piece
    while [ ${#running[@]} -ge "$JOBS" ]; do wait_one; done
    {
        set +e
        out=$(set -e; "$@" 2>&1)
        code=$?
        if [ $code -eq 0 ]; then echo "$out" | tail -n 3; else echo "$out" >&2; fi
        exit $code
    } &
    running+=($!)
}
all_done() { while [ ${#running[@]} -gt 0 ]; do wait_one; done; }
of() { echo "${1//\{trait\}/$2}"; } # a pattern for one trait

step "vectors"
bash scripts/generate_vec.sh "$devices" "$model" ${traits//,/ } -- "${flags[@]}"
# where none are named: six layers between a third and four fifths of the depth
: "${LAYERS:=$(python -c 'import sys; from persona_vectors import models; n = models.describe(models.resolve(sys.argv[1])).layers; print(*(round(n * k / 10) for k in range(3, 9)), sep=",")' "$model")}"
sweep="eval_persona_eval/$name/{trait}_steering_layer${LAYERS}_coef${COEFS}" vectors=()
best=${LAYER:-${sweep}_best.json}
for trait in ${traits//,/ }; do vectors+=("$(of "$vector" "$trait")"); done

step "steering over layers and coefficients"
bash scripts/eval_steering.sh "$devices" "$model" "$traits" "$COEFS" "$LAYERS" -- "${flags[@]}"

step "monitoring"
python -m eval.monitor --model "$model" --trait "$traits" --vector_path "$vector" --layer "$best" \
    --output_dir "$root/monitoring" --kind system_prompts,many_shot --shots "$SHOTS" \
    --pos_path "eval_persona_extract/$name/{trait}_pos_instruct.csv" \
    --neg_path "eval_persona_extract/$name/{trait}_neg_instruct.csv" "${flags[@]}"
if [ ${#vectors[@]} -gt 1 ]; then
    python -m eval.vector_similarity --vector_path "${vectors[@]}" --layer "${LAYERS%%,*}" --output "$root/similarity"
fi

step "finetuning and mitigation"
mitigate() { # one trait
    local layer
    layer=${LAYER:-$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["layer"])' "$(of "$best" "$1")")}
    bash scripts/mitigation.sh "$devices" "$root/training.json" "$1" "$PREVENT" "$layer" -- "${flags[@]}"
}
have=()
for trait in ${traits//,/ }; do
    if [ -f "$(of "$FAMILY" "$trait")/misaligned_2.jsonl" ]; then have+=("$trait"); else
        echo "no training sets of $trait at $(of "$FAMILY" "$trait"): its finetuning, mitigation and screening are left out"
    fi
done
for trait in "${have[@]}"; do together mitigate "$trait"; done
all_done

step "finetuning families"
# A model is called after its training set, folder and file, as eval.projection_difference calls the set.
sets=() files=() tuned=()
seed=${SEEDS%% *}
for family in ${FAMILIES//,/ }; do
    folder=dataset/$family/ owner=
    for trait in "${have[@]}"; do if [ "$(of "$FAMILY" "$trait")" = "dataset/$family" ]; then owner=$trait; fi; done
    for version in normal misaligned_1 misaligned_2; do
        if [ ! -f "$folder$version.jsonl" ]; then continue; fi
        if [ "$model" = models/toy ] && [ -z "$owner" ] && [ $version = misaligned_1 ]; then continue; fi # 15 minutes
        set=${family}_$version
        sets+=("$set") files+=("$folder$version.jsonl") tuned+=("$root/finetuned/$set")
        mkdir -p "$root/finetuned"
        if [ -n "$owner" ]; then # trained above
            ln -sfn "$PWD/output/mitigation/$name/$owner/seed$seed/plain_$version" "$root/finetuned/$set"
        else
            together python training.py "$root/training.json" training_file="$folder$version.jsonl" seed="$seed" \
                output_dir="$root/finetuned/$set"
        fi
    done
done
all_done
ask() { # model, answers, traits
    python -m eval.eval_persona --model "$1" --trait "$3" --version eval --output_path "$2" "${flags[@]}"
}
for k in "${!sets[@]}"; do together ask "${tuned[k]}" "$root/answers/${sets[k]}/{trait}.csv" "$traits"; done
all_done

if [ ${#sets[@]} -gt 0 ]; then
    step "finetuning shifts"
    python -m eval.finetuning_shift --base_model "$model" --model_list "${tuned[@]}" --trait "$traits" --trait_dir "$trait_dir" \
        --vector_path "$vector" --layer "$best" --answers "$root/answers/{model}/{trait}.csv" --output "$root/shift"

    step "screening training data"
    engine=()
    for ((k = 0; k < ${#flags[@]}; k++)); do
        case "${flags[k]}" in --backend | --batch_size | --max_tokens) engine+=("${flags[k]}" "${flags[k + 1]}") ;; esac
    done
    python -m eval.projection_difference --file_path "${files[@]}" --vector_path "${vectors[@]}" --layer "$best" \
        --model_name "$model" --output_dir "$root/screening" --estimate sample --sample "$SAMPLE" \
        --shift_path "$root/shift.csv" "${engine[@]}"
fi
screen() { # one trait: its mixed set, by projection difference; train on the highest, the lowest and any rows
    local folder=$root/selected/$1 mixed end
    mixed=$(of "$FAMILY" "$1")/misaligned_1.jsonl
    python -m eval.projection_difference --file_path "$mixed" --vector_path "$(of "$vector" "$1")" --layer "$(of "$best" "$1")" \
        --model_name "$model" --output_dir "$folder" --select high,random,low --k "$K" "${engine[@]}"
    for end in high random low; do
        python training.py "$root/training.json" training_file="$(ls "$folder"/*_"${end}_$K".jsonl)" seed="$seed" output_dir="$folder/$end"
        ask "$folder/$end" "$folder/$end.csv" "$1"
    done
}
for trait in "${have[@]}"; do together screen "$trait"; done
all_done

step "report"
python -m eval.report --model "$name" --trait "$traits" --folder "$root" --steering "$sweep" \
    --mitigation "output/mitigation/$name/mitigation" --output "$root/report.html"
echo "done in $((SECONDS - started)) s"
