#!/usr/bin/env bash
# The first process of a host that has nothing but itself: unshare ... one_host.sh FOLDER
touch "$1/ready"
sleep infinity &
wait # it reaps what Ray's daemons leave
