#!/usr/bin/env bash
# Format, lint and types: what a commit has to pass beside the tests. Changes nothing.
#
#     bash scripts/check_code.sh
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
arguments -- "$@"
use_environment "$(default_requirements)" requirements-test.txt
python -m ruff check .
python -m ruff format --check .
python -m mypy
