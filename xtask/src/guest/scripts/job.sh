#!/bin/sh
# Runs the job with its output on ports of the machine, then writes its exit code on another and ends the machine.
export PATH=/guest/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TARE_BIN_DIR=/guest/bin TARE_TEST_DEBS=/run/guest/debs

port() {
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" = "$1" ] && echo "/dev/${port##*/}"
    done
}

# The kit takes locks beside its packages.
[ -d /guest/debs ] && cp -r /guest/debs /run/guest/debs

# As a user: of its own, with a cgroup that is the user's to divide.
as_user() {
    id "$1" > /dev/null 2>&1 || useradd --create-home --shell /bin/sh "$1" || return 125
    uid=$(id -u "$1")
    export HOME="/home/$1" USER="$1" LOGNAME="$1" XDG_RUNTIME_DIR="/run/user/$uid"
    cd "$HOME" || return 125
    if [ -d /run/systemd/system ]; then
        export DBUS_SESSION_BUS_ADDRESS="unix:path=$XDG_RUNTIME_DIR/bus"
        systemctl start "user@$uid.service" || return 125
        setpriv --reuid "$uid" --regid "$uid" --init-groups -- \
            systemd-run --user --quiet --wait --pipe --collect -p Delegate=yes --working-directory="$HOME" \
            -E PATH -E TARE_BIN_DIR -E TARE_TEST_DEBS -E XDG_RUNTIME_DIR /bin/sh /run/guest/script
        return
    fi
    mkdir -p "$XDG_RUNTIME_DIR"
    chown "$uid:$uid" "$XDG_RUNTIME_DIR"
    chmod 700 "$XDG_RUNTIME_DIR"
    group=/sys/fs/cgroup/user-$uid
    echo "+cpu +cpuset +memory +pids +io" > /sys/fs/cgroup/cgroup.subtree_control
    mkdir -p "$group/job"
    for file in . cgroup.procs cgroup.threads cgroup.subtree_control job job/cgroup.procs job/cgroup.threads \
        job/cgroup.subtree_control; do
        chown "$uid:$uid" "$group/$file"
    done
    # shellcheck disable=SC2016
    sh -c 'echo 0 > "$1/job/cgroup.procs"; shift; exec "$@"' sh "$group" \
        setpriv --reuid "$uid" --regid "$uid" --init-groups -- /bin/sh /run/guest/script
}

user=$(sed -n 's/.* guest.user=\([^ ]*\).*/\1/p' /proc/cmdline)
out=$(port out) err=$(port err) code=$(port code)
cd /root || exit
if [ -n "$user" ]; then
    chmod -R a+rX /run/guest
    as_user "$user" > "$out" 2> "$err" < /dev/null
else
    /bin/sh /run/guest/script > "$out" 2> "$err" < /dev/null
fi
echo "$?" > "$code"
# Nothing on the disks outlives the run, so there is nothing to flush.
echo b > /proc/sysrq-trigger
