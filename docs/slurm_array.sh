#!/usr/bin/env bash
#SBATCH --job-name=image-classifiers
#SBATCH --requeue
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%A_%a.out
# One run of a plan: the line of the file $1 that the task's number names. From the suite's folder, with its virtual
# environment active:
#
#     python ex2_improvements.py --variant all --seed 0 1 2 --wait --plan > plan.tsv
#     sbatch --array=1-$(wc -l < plan.tsv) docs/slurm_array.sh plan.tsv
#
# A task that is requeued resumes after its run's last finished epoch. The last digits of a result depend on the number
# of threads: where the script has no number of its own, give --threads, and --cpus-per-task as many.
set -euo pipefail
line=$(sed -n "${SLURM_ARRAY_TASK_ID:?is set by sbatch --array}p" "${1:?name the file of the plan}")
if [ -z "$line" ]; then
    echo "error: $1 has no line $SLURM_ARRAY_TASK_ID" >&2
    exit 2
fi
exec bash -c "exec $line"
