# Runs a command in a root file system, inside the mount, PID, IPC and UTS
# namespaces that unshare made: whatever is mounted or started here is gone when
# this ends, however it ends.
# Usage: sandbox.sh ROOT NET [NAME=DIR ...] -- COMMAND ...   (NET: host or none)
set -eu
root=$1 net=$2
shift 2

prepare() {
	mount -t proc proc "$1/proc"
	mount --rbind /sys "$1/sys"
	mount -t tmpfs -o mode=755 dev "$1/dev"
	for node in null zero full random urandom tty; do
		: >"$1/dev/$node"
		mount --bind "/dev/$node" "$1/dev/$node"
	done
	mkdir "$1/dev/pts" "$1/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$1/dev/pts"
	ln -s pts/ptmx "$1/dev/ptmx"
	ln -s /proc/self/fd "$1/dev/fd"
	ln -s /proc/self/fd/0 "$1/dev/stdin"
	ln -s /proc/self/fd/1 "$1/dev/stdout"
	ln -s /proc/self/fd/2 "$1/dev/stderr"
	mount -t tmpfs -o mode=1777 shm "$1/dev/shm"
	mount -t tmpfs -o mode=755 run "$1/run"
	mkdir -m 1777 "$1/run/lock"
}

mount --make-rprivate /
prepare "$root"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
while [ "$1" != -- ]; do
	part=$root/mnt/imago/${1%%=*}
	mkdir -p "$part"
	mount --bind "${1#*=}" "$part"
	prepare "$part"
	mount --bind "$root/tmp" "$part/tmp"
	shift
done
shift
hostname localhost
if [ "$net" = none ]; then
	ip link set lo up
else
	[ -e "$root/etc/resolv.conf" ] || : >"$root/etc/resolv.conf"
	mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
fi
exec chroot "$root" "$@"
