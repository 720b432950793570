# Process 1 of a host under test where the kernel still has cgroup v1: give systemd a tree of its
# own for every controller, so that MemoryMax=, CPUQuota= and TasksMax= work as on a real host.
# (With cgroup v2 podman does this by itself.) Then become systemd.
# shellcheck shell=sh
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --cgroup sh -euc '
grep -v "^0:" /proc/self/cgroup >/tmp/controllers
umount -R -l /sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup /sys/fs/cgroup
while IFS=: read -r _ controllers _; do
    target=/sys/fs/cgroup/${controllers#name=}
    mkdir "$target"
    case $controllers in
    name=*) mount -t cgroup -o "none,$controllers" cgroup "$target" ;;
    *) mount -t cgroup -o "$controllers" cgroup "$target" ;;
    esac
done </tmp/controllers
rm /tmp/controllers
mkdir /sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
exec /sbin/init'
