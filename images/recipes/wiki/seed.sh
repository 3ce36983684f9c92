# Fills the wiki: installs MediaWiki's tables from the web machine's root file
# system into this one's database, then users, pages with histories, and files.
ROOT='' ADDRESS=10.20.0.11
web=/mnt/imago/web
. /usr/local/share/imago/mariadb.sh
start_db
mariadb </usr/local/share/imago/grant.sql

in_web() { chroot "$web" setpriv --reuid www-data --regid www-data --init-groups "$@"; }
wiki=/var/lib/mediawiki/maintenance

settings=$web/etc/mediawiki/LocalSettings.php
mv "$settings" "$settings.kept"
in_web php $wiki/install.php --confpath /tmp --dbserver "$ADDRESS" --dbname wiki --dbuser wiki --dbpass "$db_password" \
	--server "$wiki_server" --scriptpath /mediawiki --pass "$admin_password" 'Imago Wiki' Admin
mv "$settings.kept" "$settings"
rm -f /tmp/LocalSettings.php
in_web php $wiki/rebuildLocalisationCache.php --lang=en

mkdir -m 1777 /tmp/seed
cp /usr/local/share/imago/*.php /tmp/seed/
# The installer's page must be older than what is imported.
mariadb wiki -e "UPDATE revision SET rev_timestamp = '20231231000000'"
in_web php /tmp/seed/generate.php /tmp/seed
in_web php /tmp/seed/seed.php --users --password "$user_password"
in_web php $wiki/importDump.php --no-updates /tmp/seed/pages.xml
in_web php $wiki/importImages.php --user Admin --timestamp 20250601120000 --comment-ext=desc --extensions=png,txt \
	--overwrite /tmp/seed/files
in_web php $wiki/rebuildall.php
in_web php $wiki/initSiteStats.php --update
in_web php $wiki/initEditCount.php
in_web php $wiki/runJobs.php
in_web php /tmp/seed/seed.php --render
mariadb wiki </usr/local/share/imago/transfer.sql

mariadb -N wiki -e "SELECT 'pages', COUNT(*) FROM page UNION SELECT 'revisions', COUNT(*) FROM revision
	UNION SELECT 'users', COUNT(*) FROM user UNION SELECT 'files', COUNT(*) FROM image
	UNION SELECT 'links', COUNT(*) FROM pagelinks UNION SELECT 'jobs', COUNT(*) FROM job" | tee /tmp/counts
awk '{ n[$1] = $2 } END { exit !(n["pages"] >= 200 && n["revisions"] >= 600 && n["users"] >= 20 && n["files"] >= 12 &&
	n["links"] >= 400 && n["jobs"] == 0) }' /tmp/counts
mariadb-dump --single-transaction --no-tablespaces --skip-dump-date --ignore-table-data=wiki.objectcache wiki >/var/tmp/wiki.sql
stop_db
rm -r /usr/local/share/imago
rm -rf /var/lib/mysql/ib_buffer_pool
systemctl enable mariadb.service
