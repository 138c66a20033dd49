#!/usr/bin/env bash
# A Slurm of one node with two CPUs, or as many as it says that there are, in namespaces of its own,
# until it is killed:
#   unshare --pid --fork --kill-child --mount-proc --net --ipc one_node_slurm.sh FOLDER [CPUS]
# There `ray stop`, with which slurm.sh's job ends, sees no other Ray of this host.
set -euo pipefail
folder=$1 cpus=${2:-2}
ip=10.77.0.1

ip link set lo up # a loopback alone is no network to Slurm
ip link add host0 type veth peer name host1
ip address add "$ip/24" dev host0
ip link set host0 up
ip link set host1 up
ip route add default via 10.77.0.254 # without one Ray takes the loopback's address

mkdir -p "$folder/state" "$folder/spool"
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=localhost($ip)
AuthType=auth/munge
# A requeued job waits until its credential has expired: 120 s if not told otherwise.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=$ip CPUs=$cpus
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
CONF
export SLURM_CONF=$folder/slurm.conf
munged --key-file "$folder/munge.key" --socket "$folder/munge.socket" --force \
  --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" --seed-file "$folder/munged.seed"
slurmctld -c
slurmd -N localhost
until [[ $(sinfo --noheader --format %T) == idle ]]; do sleep 0.1; done
touch "$folder/ready"
sleep infinity &
wait # here as init this shell also reaps what Ray's daemons leave; `ray stop` waits for that
