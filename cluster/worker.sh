#!/usr/bin/env bash
# Jobs that work on one study together, without taking whole nodes. From the project's folder:
#
#   sbatch --array=1-20 --gpus=1 cluster/worker.sh spaces/isles24.yaml --runs /shared/runs
#
# The words are those of `segtune launch`. Each job is a Ray node with just the CPUs, memory and GPU
# that Slurm granted; several may lie on one host, beside other users'. One of them is the head and
# has the driver; when it ends, another takes over. Ten minutes before its wall a job lets its trials
# write checkpoints, which go on elsewhere, and requeues itself until the study has ended. More jobs
# can be added at any time by the same line, and `scancel` takes them away.
#SBATCH --job-name=segtune
#SBATCH --output=segtune-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --time=47:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
set -euo pipefail

if (($# == 0)) || [[ ! -f cluster/worker.sh ]]; then
  echo "usage, in the project's folder: sbatch [OPTION]... cluster/worker.sh STUDY [WORD]..." >&2
  exit 2
fi
PATH=$PWD/.venv/bin:$PATH
# shellcheck source=cluster/ray.env
. cluster/ray.env
# shellcheck source=cluster/node.env
. cluster/node.env
make_node_folder

${SEGTUNE_WORK:-segtune work} "$@" &
job=$!
trap 'kill "$job" 2>/dev/null || true' TERM
while :; do # a trapped signal interrupts `wait`
  status=0
  wait "$job" || status=$?
  kill -0 "$job" 2>/dev/null || break
done
# 75: it was asked to go before the study had ended. The last job of an array has the array's number,
# by which Slurm would requeue all of them.
if ((status == 75)); then
  me=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
  echo "$me: requeued; the same words continue it"
  scontrol requeue "$me"
fi
exit "$status"
