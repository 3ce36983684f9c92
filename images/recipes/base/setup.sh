# Leaves running what a server needs; what an emulated machine would only wait
# for is masked. Each unit can be unmasked as on any Debian.
systemctl mask \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
	e2scrub_reap.service systemd-tmpfiles-clean.timer systemd-networkd-wait-online.service \
	systemd-pstore.service systemd-firstboot.service systemd-sysusers.service ldconfig.service \
	systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service \
	systemd-machine-id-commit.service systemd-journal-flush.service systemd-binfmt.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-timesyncd.service \
	systemd-remount-fs.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-fs-fuse-connections.mount sys-kernel-config.mount \
	modprobe@configfs.service modprobe@fuse.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@dm_mod.service modprobe@loop.service \
	getty@tty1.service getty.target console-setup.service keyboard-setup.service systemd-ask-password-console.path \
	systemd-ask-password-wall.path nvmefc-boot-connections.service
systemctl enable systemd-networkd.service ssh.service
systemctl set-default multi-user.target
# The agent's unit is bound to its device, whose rule starts it.
[ -e /lib/systemd/system/qemu-guest-agent.service ]
rm -f /boot/System.map-* /vmlinuz.old /initrd.img /initrd.img.old
