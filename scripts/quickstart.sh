#!/usr/bin/env bash
# From a fresh clone to a first figure, on any machine, without a GPU, a key or weights.
#
#     bash scripts/quickstart.sh
#
# Makes .venv, installs, trains the toy model (about two minutes), finds its persona vectors with
# scripts/generate_vec.sh, steers with them and draws what happened. A second run reuses what is there.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
arguments -- "$@"
started=$SECONDS
use_environment "$(default_requirements)"
export HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=1 # the toy is too small for a second thread to help (its training sets its own number)
toy=(--trait_dir data_generation/toy --backend hf --n_per_question 2 --max_tokens 128) # its answers have 30 to 80
traits=(evil sycophantic hallucinating)

python -m data_generation.toy.build_model --output_dir models/toy
start_toy_judge "${toy[@]}"
bash scripts/generate_vec.sh cpu models/toy "${traits[@]}" -- "${toy[@]}"
bash scripts/eval_steering.sh cpu models/toy "$(IFS=,; echo "${traits[*]}")" 0,0.5,1,1.25,1.5 1,2,3 -- "${toy[@]}"

echo "done in $((SECONDS - started)) s; next: README.md"
