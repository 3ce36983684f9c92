#!/bin/sh
# Init of imago's initrd: loads what the root disk needs and goes there.
# ROOT and its like come from the kernel's command line.
mount -t devtmpfs dev /dev
mount -t proc proc /proc
root=/dev/vda
init=/sbin/init
mode=ro
for word in $(cat /proc/cmdline); do
	case $word in
	root=*) root=${word#root=} ;;
	init=*) init=${word#init=} ;;
	ro | rw) mode=$word ;;
	esac
done
while read -r module; do
	insmod "/modules/$module"
done </modules/order
tries=0
while
	case $root in
	LABEL=* | UUID=*) disk=$(findfs "$root" 2>/dev/null) ;;
	*) disk=$root ;;
	esac
	[ ! -b "$disk" ]
do
	tries=$((tries + 1))
	if [ $tries -gt 600 ]; then
		echo "imago initrd: no root disk $root" >/dev/console
		exec poweroff -f
	fi
	sleep 0.05
done
if ! mount -t ext4 -o "$mode" "$disk" /root; then
	echo "imago initrd: cannot mount $disk" >/dev/console
	exec poweroff -f
fi
mount --move /dev /root/dev
umount /proc
exec switch_root /root "$init"
