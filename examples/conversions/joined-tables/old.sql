-- A shop whose reports joined five tables. Prices include no tax.
CREATE TABLE customer (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, country CHAR(2) NOT NULL, KEY (country)) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE product (id INT AUTO_INCREMENT PRIMARY KEY, title VARCHAR(60), price DECIMAL(8,2) NOT NULL, tax_class TINYINT NOT NULL, KEY (tax_class)) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE tax (country CHAR(2) NOT NULL, class TINYINT NOT NULL, percent DECIMAL(4,1) NOT NULL, PRIMARY KEY (country, class)) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE orders (id INT AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, placed DATETIME NOT NULL, KEY (customer)) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE order_line (order_id INT NOT NULL, line INT NOT NULL, product INT NOT NULL, pieces INT NOT NULL, PRIMARY KEY (order_id, line), KEY (product)) ENGINE=InnoDB CHARACTER SET utf8mb4;

INSERT INTO tax VALUES ('DE', 1, 19.0), ('DE', 2, 7.0), ('FR', 1, 20.0), ('FR', 2, 5.5), ('US', 1, 0.0), ('US', 2, 0.0);
INSERT INTO customer (name, country) SELECT CONCAT('Client ', seq), ELT(1 + seq MOD 3, 'DE', 'FR', 'US') FROM seq_1_to_100;
INSERT INTO product (title, price, tax_class) SELECT CONCAT('Thing ', seq), seq * 1.1, 1 + seq MOD 2 FROM seq_1_to_60;
INSERT INTO orders (customer, placed) SELECT 1 + seq MOD 100, '2026-01-01' + INTERVAL seq MINUTE FROM seq_1_to_800;
INSERT INTO order_line SELECT 1 + seq DIV 3, 1 + seq MOD 3, 1 + (seq * 7) MOD 60, 1 + seq MOD 5 FROM seq_0_to_2399;
-- A product that nobody gave a title, sold once.
INSERT INTO product (id, title, price, tax_class) VALUES (99, NULL, 5, 1);
INSERT INTO order_line VALUES (10, 9, 99, 1);
