CREATE DATABASE wiki CHARACTER SET binary;
CREATE USER 'wiki'@'10.20.0.%' IDENTIFIED BY '{{.db_password}}';
GRANT ALL PRIVILEGES ON wiki.* TO 'wiki'@'10.20.0.%';

-- Who reads the row log: REPLICATION SLAVE is the log itself, BINLOG MONITOR
-- where it stands, PROCESS the transactions in progress, SELECT the schema and,
-- in a clone, the rows.
CREATE USER 'imago'@'10.20.0.%' IDENTIFIED BY '{{.transfer_password}}';
GRANT REPLICATION SLAVE, BINLOG MONITOR, PROCESS ON *.* TO 'imago'@'10.20.0.%';
GRANT SELECT ON wiki.* TO 'imago'@'10.20.0.%';
