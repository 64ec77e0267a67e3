#!/bin/sh
# Runs a command as a container would with a read-only root: its own mounts, the system's programs, /app, and nothing to
# write to but /data and /tmp. Called inside `unshare --mount`, with capabilities to mount.
#   read_only_root.sh ROOT APP VENV PYTHON_HOME UID COMMAND…     (UID empty: who we are already)
set -eu
root=$1 app=$2 venv=$3 python_home=$4 uid=$5
shift 5

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -p "$root/app" "$root/data" "$root/dev" "$root/proc" "$root/tmp" "$root$python_home"
for name in usr etc; do
    mkdir -p "$root/$name"
    mount --rbind "/$name" "$root/$name"
done
for name in bin lib lib32 lib64 sbin; do
    if [ -L "/$name" ]; then
        cp -P "/$name" "$root/$name"
    elif [ -d "/$name" ]; then
        mkdir -p "$root/$name"
        mount --rbind "/$name" "$root/$name"
    fi
done
case $python_home in
/usr | /usr/*) ;;
*) mount --bind "$python_home" "$root$python_home" ;;
esac
mount --bind "$app" "$root/app"
mount --bind "$venv" "$root/app/.venv"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"

# Each of them by itself: to make a tree of mounts read-only at once is not for mount(8) of every age.
awk -v root="$root" '$5 == root || index($5, root "/") == 1 { print $5 }' /proc/self/mountinfo |
    grep -v -e "^$root/dev" -e "^$root/proc" |
    while read -r place; do
        mount -o remount,bind,ro "$place"
    done
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o "mode=700${uid:+,uid=$uid,gid=$uid}" tmpfs "$root/data"

exec chroot "$root" setpriv ${uid:+--reuid="$uid" --regid="$uid" --clear-groups} \
    --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
