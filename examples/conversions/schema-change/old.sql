-- A shop that grew: two addresses in the customer's row, and one table of orders
-- that nobody dares to delete from.
CREATE TABLE customers (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(80) CHARACTER SET latin1 NOT NULL,
  email VARCHAR(120) CHARACTER SET latin1 NOT NULL,
  bill_street VARCHAR(80) CHARACTER SET latin1 NOT NULL DEFAULT '',
  bill_city VARCHAR(60) CHARACTER SET latin1 NOT NULL DEFAULT '',
  ship_street VARCHAR(80) CHARACTER SET latin1 NOT NULL DEFAULT '',
  ship_city VARCHAR(60) CHARACTER SET latin1 NOT NULL DEFAULT '',
  since DATETIME NOT NULL
) ENGINE=InnoDB;
CREATE TABLE orders (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  cust INT UNSIGNED NOT NULL,
  placed DATETIME NOT NULL,
  cents INT NOT NULL,
  state TINYINT NOT NULL COMMENT '0 new, 1 paid, 2 sent, 9 cancelled',
  KEY (cust), KEY (placed)
) ENGINE=InnoDB;
-- Goes over as it is.
CREATE TABLE coupons (code VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY, percent INT NOT NULL) ENGINE=InnoDB;

INSERT INTO customers (name, email, bill_street, bill_city, ship_street, ship_city, since)
  SELECT CONCAT('Käufer ', seq), CONCAT('K', seq, '@Example.org'), CONCAT('Straße ', seq), 'Köln', IF(seq MOD 3 = 0, CONCAT('Weg ', seq), ''), IF(seq MOD 3 = 0, 'Bonn', ''), '2019-01-01' + INTERVAL seq HOUR FROM seq_1_to_400;
INSERT INTO orders (cust, placed, cents, state)
  SELECT 1 + seq MOD 400, '2021-01-01' + INTERVAL seq HOUR, seq * 7, ELT(1 + seq MOD 4, 0, 1, 2, 9) FROM seq_1_to_3000;
INSERT INTO coupons SELECT CONCAT('C', seq), seq MOD 50 FROM seq_1_to_50;
-- Somebody's typing error, which no partition takes.
INSERT INTO orders (id, cust, placed, cents, state) VALUES (5001, 7, '2204-03-01 10:00:00', 4200, 1);
