#!/usr/bin/env bash
# Can the requirements and the library be installed? Resolves each for each Python, in an empty environment; installs nothing.
#
#     bash scripts/check_requirements.sh [PYTHON ...]
#
# PYTHON defaults to those of python3.11, python3.12 and python3.13 that are here. Empty: no settings of pip's or of yours,
# no cache, PyPI alone. Exit code 1 where something does not resolve.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
source scripts/pipeline.sh
arguments more -- "$@"
if [ ${#more[@]} -eq 0 ]; then
    for python in python3.11 python3.12 python3.13; do
        if "$python" -c '' 2>/dev/null; then more+=("$python"); else echo "$python is not here: not checked"; fi
    done
fi
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
# pip leaves folders behind where it reads a library: it is given a copy
mkdir "$empty/library"
cp -R pyproject.toml README.md LICENSE persona_vectors "$empty/library"
alone() { env -i HOME="$empty" PATH=/usr/bin:/bin PIP_DISABLE_PIP_VERSION_CHECK=1 "$@"; }

failed=0
for python in "${more[@]}"; do
    python=$(command -v "$python") || refuse "no Python at $python"
    rm -rf "$empty/venv"
    alone "$python" -m venv "$empty/venv"
    alone "$empty/venv/bin/python" -m pip install --quiet --upgrade pip
    for wanted in "-r requirements.txt" "-r requirements-cpu.txt" "-r requirements-cpu.txt -r requirements-test.txt" \
        "$empty/library[vllm]" "$empty/library[test,notebooks]"; do
        started=$SECONDS
        if alone "$empty/venv/bin/python" -m pip install --dry-run --quiet --report "$empty/report.json" \
            $wanted >"$empty/said" 2>&1; then
            result="resolves, $(grep -c '"download_info"' "$empty/report.json") packages"
        else
            result="DOES NOT RESOLVE: $(grep -i error "$empty/said" | tail -n 1)" failed=1
        fi
        echo "$("$python" --version)  ${wanted/"$empty/library"/.}: $result ($((SECONDS - started)) s)"
    done
done
exit $failed
