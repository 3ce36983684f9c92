CREATE DATABASE store CHARACTER SET utf8mb4;
CREATE USER 'store'@'%' IDENTIFIED BY 'lab-store-4711';
GRANT ALL PRIVILEGES ON store.* TO 'store'@'%';
USE store;

-- Renamed, and the name split.
CREATE TABLE client (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  given_name VARCHAR(80) NOT NULL,
  family_name VARCHAR(80) NOT NULL,
  email VARCHAR(120) NOT NULL,
  since DATE NULL,
  UNIQUE KEY (email)
) ENGINE=InnoDB;

-- What each client has ordered, joined from two tables.
CREATE TABLE client_total (
  client INT UNSIGNED NOT NULL PRIMARY KEY,
  orders INT NOT NULL,
  total DECIMAL(14,2) NOT NULL
) ENGINE=InnoDB;

CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer INT UNSIGNED NOT NULL,
  total DECIMAL(14,2) NOT NULL,
  placed DATETIME(6) NOT NULL,
  note MEDIUMTEXT,
  state ENUM('placed','paid','sent') NOT NULL DEFAULT 'placed',
  KEY (customer)
) ENGINE=InnoDB;

CREATE TABLE order_line (
  orders BIGINT UNSIGNED NOT NULL,
  line INT UNSIGNED NOT NULL,
  sku VARCHAR(40) NOT NULL,
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
  c CHAR(7), v VARCHAR(60), u VARCHAR(60), txt MEDIUMTEXT,
  bin BINARY(6), vb VARBINARY(40), bl LONGBLOB,
  dt DATE, tm TIME(2), dtm DATETIME(6), ts TIMESTAMP NULL, y YEAR,
  en ENUM('small','medium','large'), se SET('red','green','blue'), j JSON, ip INET6, g POINT,
  twice BIGINT AS (i * 2) VIRTUAL, stored VARCHAR(70) AS (CONCAT(v, '!')) PERSISTENT
) ENGINE=InnoDB;
