#!/usr/bin/env bash
# Lets users into a mount namespace, of whom the machine around it hears nothing:
#   two_users.sh FOLDER NAME... -- PATH...
# Their homes lie in FOLDER, and they may enter each PATH, also where it lies in root's home.
set -euo pipefail
folder=$1
shift

for file in passwd group; do cp "/etc/$file" "$folder/$file"; done
id=60000
while [[ $1 != -- ]]; do
  id=$((id + 1))
  echo "$1:x:$id:$id::$folder/$1:/bin/bash" >>"$folder/passwd"
  echo "$1:x:$id:" >>"$folder/group"
  install --directory --mode=700 --owner="$id" --group="$id" "$folder/$1"
  shift
done
shift
for file in passwd group; do mount --bind "$folder/$file" "/etc/$file"; done

home=$(getent passwd root | cut -d: -f6)
mkdir --mode=700 "$folder/root"
mount --rbind "$home" "$folder/root"
mount -t tmpfs -o mode=755 root "$home"
for path; do
  [[ $path == "$home"/* ]] || continue
  mkdir -p "$path"
  mount --rbind "$folder/root${path#"$home"}" "$path"
done
umount --lazy "$folder/root"
