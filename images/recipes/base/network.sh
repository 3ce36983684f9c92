#!/bin/sh
# Gives the first network card, or the one with the MAC in /etc/imago/network,
# its address. It needs nothing but the kernel, so it can be the first service:
# an emulated machine waits five seconds for systemd-networkd.
[ -r /etc/imago/network ] || exit 0
. /etc/imago/network
ip link set lo up
for dir in /sys/class/net/*; do
	[ "${dir##*/}" != lo ] || continue
	read -r found <"$dir/address"
	[ "$found" = "${mac:-$found}" ] || continue
	ip link set "${dir##*/}" up
	ip address add "$address" broadcast + dev "${dir##*/}"
	[ -z "$gateway" ] || ip route replace default via "$gateway"
	exit 0
done
echo "no network card ${mac:-at all}" >&2
exit 1
