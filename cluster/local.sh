#!/usr/bin/env bash
# Ray on this machine, with all its CPUs and GPUs, which nobody without the token can use.
#
#   cluster/local.sh start                              # for this machine alone: loopback only
#   cluster/local.sh start --node-ip-address 10.0.0.1   # the head of several machines
#   cluster/local.sh join 10.0.0.1:6379                 # on each of the others
#   cluster/local.sh stop                               # ends what the above started here, no other Ray
#
# More words go to `ray start`: --port 6380, --num-gpus 4. The dashboard listens on loopback. On this
# machine `segtune launch --address auto` means that Ray. Its files are in a private folder below /tmp
# (search/execution/own_ray/folder.py), its log is ~/.ray/segtune.log. SEGTUNE_MPS=1 before `start` or
# `join` lets trials that share a GPU compute at the same time (cluster/node.env).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$root/.venv/bin:$PATH
# shellcheck source=cluster/ray.env
. "$root/cluster/ray.env"
# shellcheck source=cluster/node.env
. "$root/cluster/node.env"
if [[ ! -w ${HOME-} ]]; then
  echo "$0: HOME: ${HOME:-not set}: must be a folder that you can write" >&2
  exit 2
fi
pid_file=$HOME/.ray/segtune.pid
log=$HOME/.ray/segtune.log

running() { [[ -s $pid_file ]] && kill -0 "$(<"$pid_file")" 2>/dev/null; }

run() {
  if running; then
    echo "$0: runs already; end it with: $0 stop" >&2
    exit 2
  fi
  make_node_folder && start_mps || exit
  (cd "$root" && python -m search.execution.auth)
  (umask 077 && : >"$log")
  # --block: this process ends its own Ray when it ends, where `ray stop` would end everybody's.
  (cd "$root" && exec nohup setsid python -m search.execution.own_ray.folder start --block "$@") \
    </dev/null >>"$log" 2>&1 &
  echo $! >"$pid_file"
  until grep -q 'Ray runtime started' "$log"; do
    if ! running; then
      echo "$0: $(grep . "$log" | tail -n 1)" >&2
      echo "$0: more in $log" >&2
      rm "$pid_file"
      end_mps
      exit 1
    fi
    sleep 0.2
  done
}

# Else Ray tries for a minute, and says that it timed out.
check_address() {
  local words=("$@") ip='' i
  for ((i = 0; i < $#; i++)); do
    case ${words[i]} in
      --node-ip-address) ip=${words[i + 1]-} ;;
      --node-ip-address=*) ip=${words[i]#*=} ;;
    esac
  done
  [[ -n $ip ]] || return 0
  python - "$ip" <<'PYTHON' && return 0
import socket, sys
try:
    family, _, _, _, where = socket.getaddrinfo(sys.argv[1], 0, type=socket.SOCK_STREAM)[0]
    socket.socket(family).bind(where)
except OSError:
    sys.exit(1)
PYTHON
  echo "$0: --node-ip-address $ip: is no address of this machine; it has: $(hostname -I)" >&2
  exit 2
}

stop() {
  if ! running; then
    echo "$0: nothing to stop" >&2
    end_mps # of a Ray that did not end by itself
    return
  fi
  local pid tries=300
  pid=$(<"$pid_file")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do
    if ((--tries == 0)); then
      echo "$0: process $pid does not end; see $log" >&2
      exit 1
    fi
    sleep 0.1
  done
  rm "$pid_file"
  end_mps
}

case ${1-} in
  start)
    shift
    # Else Ray would replace 127.0.0.1 by this machine's own address, and listen on all.
    [[ " $* " == *" --node-ip-address"* ]] || export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
    check_address "$@"
    run --head --node-ip-address 127.0.0.1 --dashboard-host 127.0.0.1 "$@"
    until address=$(cd "$root" && python -m search.execution.own_ray.folder); do
      sleep 0.2 # it says that it has started before it writes its address
    done
    echo "Ray runs: segtune launch SPACE --address $address"
    ;;
  join)
    if (($# < 2)); then
      echo "usage: $0 join HEAD:PORT [RAY_START_OPTION]..." >&2
      exit 2
    fi
    token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
    if [[ -z ${RAY_AUTH_TOKEN-} && ! -s $token ]]; then
      echo "$0: $token: there is none; copy the head's here" >&2
      exit 2
    fi
    address=$2
    shift 2
    check_address "$@"
    run --address "$address" "$@"
    echo "joined $address"
    ;;
  stop) stop ;;
  *)
    echo "usage: $0 start | join HEAD:PORT | stop" >&2
    exit 2
    ;;
esac
