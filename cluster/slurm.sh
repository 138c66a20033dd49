#!/usr/bin/env bash
# A study on Slurm, for as many walls as it takes. Submit from the project's folder:
#
#   sbatch --gpus-per-node 8 cluster/slurm.sh segtune launch spaces/isles24.yaml --runs /shared/runs
#   sbatch --nodes 4 --gpus-per-node 8 --time 47:00:00 cluster/slurm.sh segtune resume STUDY ...
#
# Ten minutes before the wall the trials write their checkpoints, the job requeues itself and the
# same words continue the study. `segtune stop STUDY` ends it for now, and the job with it.
# A crash, such as of Ray's head, is repeated here (cluster/relaunch.sh); after the loss of a
# node Slurm requeues the job. With SEGTUNE_MPS=1 in the environment of `sbatch`, trials that share
# a GPU compute on it at the same time (cluster/node.env).
#SBATCH --job-name=segtune
#SBATCH --output=segtune-%j.log
#SBATCH --open-mode=append
#SBATCH --time=47:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
# Exclusive, since `ray symmetric-run` ends with `ray stop`, which ends every Ray on a host.
set -euo pipefail

if (($# == 0)) || [[ ! -f cluster/slurm.sh ]]; then
  echo "usage, in the project's folder: sbatch [OPTION]... cluster/slurm.sh COMMAND [WORD]..." >&2
  exit 2
fi
PATH=$PWD/.venv/bin:$PATH
# shellcheck source=cluster/ray.env
. cluster/ray.env
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
python -m search.execution.auth
if ! srun test -r "$RAY_AUTH_TOKEN_PATH"; then
  echo "RAY_AUTH_TOKEN_PATH: $RAY_AUTH_TOKEN_PATH: must be a file that all nodes share" >&2
  exit 2
fi

# This script, Ray's head and the driver run on the first node.
address=$(python -c 'import ray; print(ray.util.get_node_ip_address())'):6379
state=$(mktemp -d) # what the driver leaves: its pid, its status; and `told`, that it shall stop
export address state
trap 'rm -rf "$state"' EXIT

# Runs on the first node, once Ray is up.
driver() {
  [[ ! -e $state/told ]] || return 0 # while Ray started
  RAY_ADDRESS=$address "$@" &
  echo $! >"$state/pid"
  wait $!
  echo $? >"$state/status"
}

# Runs Ray on all nodes and the driver on the first. symmetric-run's own status is 0 also where Ray
# did not start, hence the file; and its `ray stop` describes every process at length.
everywhere() {
  [[ ! -e $state/told ]] || return 0 # during the pause after a crash
  rm -f "$state/pid" "$state/status"
  srun --cpus-per-task="$SLURM_CPUS_ON_NODE" \
    bash -c '. cluster/node.env && on_node "$@"' on_node \
    python -m search.execution.own_ray.folder symmetric-run \
    --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_ON_NODE" --include-dashboard=false \
    -- bash -c 'driver "$@"' driver "$@" 2>&1 | grep --line-buffered -v VINFO
  if [[ ! -e $state/status && ! -e $state/told ]]; then
    echo "$SLURM_JOB_ID: Ray did not start, or died with its driver" >&2
    return 1
  fi
  return "$(cat "$state/status" 2>/dev/null || echo 0)"
}
export -f driver everywhere

tell() {
  [[ ! -e $state/status || $(<"$state/status") != 0 ]] || return 0 # it has ended by itself
  touch "$state/told"
  echo "$SLURM_JOB_ID: asked to make room: the study writes its checkpoints"
  kill "$(cat "$state/pid" 2>/dev/null)" 2>/dev/null || true # none yet while Ray starts
}
trap tell TERM

cluster/relaunch.sh bash -c 'everywhere "$@"' everywhere "$@" &
job=$!
while :; do # a trapped signal interrupts `wait`
  status=0
  wait "$job" || status=$?
  kill -0 "$job" 2>/dev/null || break
done
if [[ ! -e $state/told || $status == [23] ]]; then
  exit "$status"
fi
echo "$SLURM_JOB_ID: requeued; the same words continue it"
scontrol requeue "$SLURM_JOB_ID"
