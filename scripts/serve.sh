#!/usr/bin/env bash
# Serve a model through the OpenAI API, each request steered as it asks.
#
#     bash scripts/serve.sh MODEL VECTORS [PORT] [-- flags of python -m eval.serve]
#
# VECTORS is a folder, persona_vectors/<model>/; PORT defaults to 8000, on this machine alone (-- --host 0.0.0.0 opens
# it to others). Needs vLLM. A client sends  extra_body={"vllm_xargs": {"vector": "evil", "coef": 1.5, "layer": 20}};
# GET /v1/persona_vectors lists the vectors. What is unknown or misspelt is refused with 400 and the reason.
set -euo pipefail
source "$(dirname "$0")/pipeline.sh"
if [ $# -eq 0 ]; then usage 2 >&2; fi
arguments model= vectors= port=8000 -- "$@"
if [ -z "$model" ] || [ -z "$vectors" ]; then usage 2 >&2; fi
exec python -m eval.serve --model "$model" --vectors "$vectors" --port "$port" ${flags[@]+"${flags[@]}"}
