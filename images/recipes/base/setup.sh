# Leaves running what a server needs; what an emulated machine would only wait
# for is masked. Each unit can be unmasked as on any Debian.
mask() {
	local unit
	for unit; do ln -sf /dev/null "/etc/systemd/system/$unit"; done
}
mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
	e2scrub_reap.service systemd-tmpfiles-clean.timer \
	systemd-pstore.service systemd-firstboot.service systemd-sysusers.service ldconfig.service \
	systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service \
	systemd-machine-id-commit.service systemd-journal-flush.service systemd-binfmt.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-timesyncd.service \
	systemd-remount-fs.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
	systemd-network-generator.service systemd-networkd-persistent-storage.service \
	systemd-modules-load.service systemd-sysctl.service kmod-static-nodes.service \
	systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service \
	systemd-udev-load-credentials.service systemd-random-seed.service systemd-user-sessions.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-fs-fuse-connections.mount sys-kernel-config.mount tmp.mount run-lock.mount proc-sys-fs-binfmt_misc.automount \
	modprobe@configfs.service modprobe@fuse.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@dm_mod.service modprobe@loop.service \
	getty@tty1.service getty.target console-setup.service keyboard-setup.service systemd-ask-password-console.path \
	systemd-ask-password-wall.path systemd-creds.socket systemd-hostnamed.socket systemd-sysext.socket \
	systemd-bsod.service systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service

# Generators look for what these machines do not have, each a process at every start.
mkdir -p /etc/systemd/system-generators
for g in /lib/systemd/system-generators/*; do
	ln -sf /dev/null "/etc/systemd/system-generators/${g##*/}"
done
rm -f /etc/systemd/system-generators/systemd-fstab-generator

systemctl enable ssh.service imago-network.service
systemctl set-default multi-user.target
# The agent's unit is bound to its device, whose rule starts it.
[ -e /lib/systemd/system/qemu-guest-agent.service ]
rm -f /boot/System.map-* /vmlinuz.old /initrd.img /initrd.img.old
