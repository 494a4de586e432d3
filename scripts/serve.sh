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
case "${1:-}" in "" | -h | --help) usage ;; esac
if [ $# -lt 2 ]; then usage 2 >&2; fi

model=$1 vectors=$2 port=8000
shift 2
if [ $# -gt 0 ] && [ "$1" != -- ]; then port=$1; shift; fi
if [ "${1:-}" = -- ]; then shift; fi
exec python -m eval.serve --model "$model" --vectors "$vectors" --port "$port" "$@"
