# Makes the old store's database.
ROOT='' ADDRESS=10.20.0.11
. /usr/local/share/imago/mariadb.sh
start_db
mariadb </usr/local/share/imago/store.sql
stop_db
rm -r /usr/local/share/imago
rm -rf /var/lib/mysql/ib_buffer_pool
systemctl enable mariadb.service
