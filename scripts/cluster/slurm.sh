#!/usr/bin/env bash
#SBATCH --job-name=persona-vectors
#SBATCH --array=0-1
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%A_%a.log
#
# A Slurm array, a trait a job (scripts/cluster/job.sh):
#
#     sbatch --array=0-2 --partition=gpu scripts/cluster/slurm.sh [MODEL] [TRAITS] [CONFIG] [-- flags for eval_persona]
#
# Submit it from the project's folder, on a file system that the nodes share: .env, .venv and all results are there.
# By default the array has two jobs, for the traits evil and sycophantic. A job that was preempted goes on where it was.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" # Slurm runs a copy of this file from a folder of its own
if [ ! -f scripts/cluster/job.sh ]; then
    echo "error: $PWD is not the project's folder: submit the job from there" >&2
    exit 2
fi
model=Qwen/Qwen2.5-7B-Instruct traits=evil,sycophantic config=configs/train_instruct_7b.json
for name in model traits config; do
    if [ $# -gt 0 ] && [ "$1" != -- ]; then printf -v "$name" %s "$1"; shift; fi
done
exec bash scripts/cluster/job.sh all "$model" "$traits" "$config" "$@"
