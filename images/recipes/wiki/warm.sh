# Compiles what will run. The web server of this root file system serves a
# scratch copy of the seeded wiki; whatever PHP compiles meanwhile stays in the
# file cache, which belongs to the web server's user and serves root as well.
ROOT=/mnt/imago/db ADDRESS=$db_address
. /usr/local/share/imago/mariadb.sh
# www-data's umask and ownership are what the real server will find.
as_web() { setpriv --reuid www-data --regid www-data --init-groups "$@"; }
wiki=/var/lib/mediawiki/maintenance

a2enconf -q imago
install -d -o www-data -g www-data -m 0700 /var/cache/php-opcache
as_web php $wiki/rebuildLocalisationCache.php --lang=en
# Caches know scripts by their time, so it is settled before.
find /var/lib/mediawiki/cache -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

start_db
if [ -e /var/tmp/wiki.sql ]; then
	in_db mariadb wiki </var/tmp/wiki.sql
	time as_web php $wiki/update.php --quick
	rm /var/tmp/wiki.sql
fi

set +u -a
. /etc/apache2/envvars
set -u +a
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR"
ip address add "${wiki_server#http://}/32" dev lo
apache2 -DFOREGROUND &
server=$!
as_web php /usr/local/share/imago/visit.php "$wiki_server/mediawiki" "$user_password"
# The same commands that an operator, or a conversion, runs.
as_web php $wiki/showSiteStats.php
as_web php $wiki/runJobs.php
as_web php $wiki/rebuildrecentchanges.php >/dev/null
kill "$server"
wait "$server" || [ $? = 143 ]
# The database is a scratch copy: it ends with this script's namespace.
rm -r /usr/local/share/imago
rm -f /var/log/apache2/*
du -sh /var/cache/php-opcache
ls /var/cache/php-opcache
systemctl enable apache2.service
