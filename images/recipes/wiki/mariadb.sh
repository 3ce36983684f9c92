# Functions of the build scripts that need a running database. Sourced with
# ROOT, the root file system of the database machine ("" is this one), and
# ADDRESS, where it listens.
in_db() { if [ -n "$ROOT" ]; then chroot "$ROOT" "$@"; else "$@"; fi; }

start_db() {
	ip address add "$ADDRESS/32" dev lo
	in_db install -d -o mysql -g mysql /run/mysqld
	# Nothing here outlives the build, so nothing needs to be flushed but the end,
	# and the row log begins when the machine first boots.
	in_db setpriv --reuid mysql --regid mysql --init-groups \
		mariadbd --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=256M --innodb-doublewrite=0 \
		--innodb-flush-method=nosync --skip-log-bin >/tmp/mariadbd.log 2>&1 &
	for _ in $(seq 600); do
		if in_db mariadb -e 'SELECT 1' >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	cat /tmp/mariadbd.log
	return 1
}

stop_db() {
	in_db mariadb -e 'SET GLOBAL innodb_fast_shutdown = 0'
	in_db mariadb-admin shutdown
	wait
}
