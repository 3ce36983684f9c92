SET NAMES utf8mb4;
CREATE DATABASE store CHARACTER SET latin1;
CREATE USER 'store'@'%' IDENTIFIED BY 'lab-store-4711';
GRANT ALL PRIVILEGES ON store.* TO 'store'@'%';
CREATE USER 'imago'@'10.20.0.%' IDENTIFIED BY 'lab-imago-5093';
GRANT REPLICATION SLAVE, BINLOG MONITOR, PROCESS ON *.* TO 'imago'@'10.20.0.%';
GRANT SELECT ON store.* TO 'imago'@'10.20.0.%';
USE store;

CREATE TABLE customer (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  email VARCHAR(120) NOT NULL,
  since DATE NOT NULL DEFAULT '0000-00-00',
  UNIQUE KEY (email)
) ENGINE=InnoDB;

CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer INT UNSIGNED NOT NULL,
  total DECIMAL(12,2) NOT NULL,
  placed DATETIME(3) NOT NULL,
  note TEXT CHARACTER SET utf8mb4,
  KEY (customer)
) ENGINE=InnoDB;

CREATE TABLE order_line (
  orders BIGINT UNSIGNED NOT NULL,
  line SMALLINT UNSIGNED NOT NULL,
  sku VARCHAR(24) NOT NULL,
  pieces INT NOT NULL,
  price DECIMAL(10,2) NOT NULL,
  amount DECIMAL(14,2) AS (pieces * price) PERSISTENT,
  PRIMARY KEY (orders, line)
) ENGINE=InnoDB;

CREATE TABLE ledger (
  client VARCHAR(24) NOT NULL,
  serial INT NOT NULL,
  at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (client, serial)
) ENGINE=InnoDB;

CREATE TABLE kinds (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, su SMALLINT UNSIGNED, m MEDIUMINT, mu MEDIUMINT UNSIGNED,
  i INT, iu INT UNSIGNED, b BIGINT, bu BIGINT UNSIGNED,
  d DECIMAL(20,6), f FLOAT, e DOUBLE, bits BIT(13),
  c CHAR(7), v VARCHAR(60), u VARCHAR(60) CHARACTER SET utf8mb4, txt MEDIUMTEXT CHARACTER SET utf8mb4,
  bin BINARY(6), vb VARBINARY(40), bl LONGBLOB,
  dt DATE, tm TIME(2), dtm DATETIME(6), ts TIMESTAMP NULL, y YEAR,
  en ENUM('small','medium','large'), se SET('red','green','blue'), j JSON, ip INET6, g POINT,
  twice BIGINT AS (i * 2) VIRTUAL, stored VARCHAR(70) AS (CONCAT(v, '!')) PERSISTENT
) ENGINE=InnoDB;

INSERT INTO customer (name, email, since)
  SELECT CONCAT(CHAR(65 + seq MOD 26 USING latin1), 'nna Müller ', seq), CONCAT('c', seq, '@example.net'), '2020-01-01' + INTERVAL seq DAY FROM seq_1_to_2000;
INSERT INTO orders (customer, total, placed, note)
  SELECT 1 + seq MOD 2000, seq * 1.25, '2024-01-01' + INTERVAL seq MINUTE, IF(seq MOD 3, NULL, CONCAT('Bitte klingeln 🔔 ', seq)) FROM seq_1_to_6000;
INSERT INTO order_line (orders, line, sku, pieces, price)
  SELECT 1 + seq DIV 3, seq MOD 3, CONCAT('SKU-', seq MOD 97), 1 + seq MOD 5, 3.50 FROM seq_0_to_17999;
INSERT INTO kinds (t, tu, s, su, m, mu, i, iu, b, bu, d, f, e, bits, c, v, u, txt, bin, vb, bl, dt, tm, dtm, ts, y, en, se, j, ip, g)
  SELECT -128 + seq MOD 256, seq MOD 256, -32768 + seq, seq, -8388608 + seq, seq, seq * 7919 - 1000000, seq * 7919, -9223372036854775808 + seq,
    18446744073709551615 - CAST(seq AS UNSIGNED), seq / 7, seq / 3, seq / 9, seq MOD 8192, CONCAT('c', seq MOD 9), CONCAT('vé', seq), CONCAT('😀', seq), REPEAT(CONCAT('t', seq), seq MOD 200),
    UNHEX('00ff00'), UNHEX(HEX(seq)), REPEAT(UNHEX('00275cff0a'), seq MOD 400), IF(seq MOD 5, '2001-02-03' + INTERVAL seq DAY, '0000-00-00'),
    SEC_TO_TIME(seq * 37 - 20000), '1999-12-31 23:59:59.999999' + INTERVAL seq SECOND, IF(seq MOD 4, '2020-02-29 12:00:00' + INTERVAL seq SECOND, NULL), 1970 + seq MOD 100,
    1 + seq MOD 3, 1 + seq MOD 7, CONCAT('{"n": ', seq, '}'), CONCAT('::', LOWER(HEX(seq MOD 65536))), POINT(seq, -seq) FROM (SELECT CAST(seq AS SIGNED) AS seq FROM seq_1_to_1500) AS n;
