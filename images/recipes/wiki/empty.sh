# Makes the empty database that the new wiki's data goes into.
ROOT='' ADDRESS=10.20.0.12
. /usr/local/share/imago/mariadb.sh
start_db
mariadb </usr/local/share/imago/grant.sql
stop_db
rm -r /usr/local/share/imago
rm -rf /var/lib/mysql/ib_buffer_pool
systemctl enable mariadb.service
