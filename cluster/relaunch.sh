#!/usr/bin/env bash
# Calls a command again for as long as it crashes: a driver cannot outlive Ray's head.
#
#   cluster/relaunch.sh segtune launch spaces/isles24.yaml --address HOST:6379
#
# Ends when the command ends by itself: with 0 (done, or told to stop), 2 (bad input, or a ledger
# that was removed) or 3 (nothing but failures came out: mend, then segtune retry); docs/faults.md
# lists all statuses. Any other is repeated, 75 among them (a storage that was waited for in vain, or
# a Ray that did not start). After a crash 2 counts as another one, since then it means a head that
# is not back yet. Gives up after RELAUNCH_CRASHES (8) in a row that lasted less than a minute each.
# SIGTERM, SIGINT and SIGHUP are passed on; what ends after one of them is not called again.
set -uo pipefail

if (($# == 0)); then
  echo "usage: $0 COMMAND [WORD]..." >&2
  exit 2
fi
limit=${RELAUNCH_CRASHES:-8}
longest_pause_s=60
child=
told=

pass_on() {
  told=$1
  [[ -z $child ]] || kill -s "$1" "$child" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
trap 'pass_on HUP' HUP

# Runs a command to its end. A signal that is passed on interrupts `wait`.
run() {
  local status
  "$@" &
  child=$!
  [[ -z $told ]] || pass_on "$told" # it came just before there was a child
  while :; do
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  child=
  return "$status"
}

crashes=0
crashed=
pause_s=1
while :; do
  began=$SECONDS
  run "$@"
  status=$?
  case $status in
    0 | 3) exit "$status" ;;
    2) [[ -n $crashed ]] || exit 2 ;;
  esac
  [[ -z $told ]] || exit "$status"
  if ((SECONDS - began >= 60)); then
    crashes=0
    pause_s=1
  fi
  crashed=yes
  if ((++crashes >= limit)); then
    echo "$0: gave up: $crashes crashes in a row within a minute each; the last status was $status" >&2
    exit "$status"
  fi
  echo "$0: status $status; again in $pause_s s" >&2
  run sleep "$pause_s"
  [[ -z $told ]] || exit "$status"
  pause_s=$((pause_s * 2 < longest_pause_s ? pause_s * 2 : longest_pause_s))
done
