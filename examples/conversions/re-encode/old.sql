-- A forum of 2003. The column says latin1; what is in it depends on which browser,
-- version and import script wrote it.
CREATE TABLE member (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  nick VARCHAR(40) CHARACTER SET latin1 NOT NULL UNIQUE
) ENGINE=InnoDB;
CREATE TABLE post (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  member INT UNSIGNED NOT NULL,
  title VARCHAR(200) CHARACTER SET latin1 NOT NULL,
  body MEDIUMTEXT CHARACTER SET latin1 NOT NULL,
  written DATETIME NOT NULL
) ENGINE=InnoDB;
-- What the authors meant. No real forum has this: it is what the test compares with.
CREATE TABLE meant (
  id INT UNSIGNED PRIMARY KEY,
  title VARCHAR(200) CHARACTER SET utf8mb4 NOT NULL,
  body MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL
) ENGINE=InnoDB;
CREATE TABLE sentence (n INT PRIMARY KEY, text TEXT CHARACTER SET utf8mb4 NOT NULL, how VARCHAR(20) NOT NULL) ENGINE=InnoDB;

INSERT INTO member (nick) SELECT CONCAT('Jörg ', seq) FROM seq_1_to_50;
INSERT INTO sentence VALUES
  (0, 'Plain words, nothing else.', 'latin1'),
  (1, 'Größe, Maße und Übermut: naïve Äußerungen', 'latin1'),
  (2, 'Das „kostet“ 5 € – mehr nicht…', 'latin1'),
  (3, 'Größe, Maße und Übermut', 'utf8'),
  (4, '日本語のテキスト and Ελληνικά', 'utf8'),
  (5, 'Emoji 🙂 came later', 'utf8'),
  (6, 'Übermäßig große Äpfel, zweimal kodiert', 'twice'),
  (7, '中文也被编码两次', 'twice'),
  (8, 'Привет, как дела? Всё хорошо.', 'cp1251'),
  (9, 'Это сообщение написано в Москве', 'cp1251');

DELIMITER //
-- Stores a sentence the way one of the forum's versions did.
CREATE PROCEDURE say(n INT, who INT)
BEGIN
  DECLARE plain TEXT CHARACTER SET utf8mb4;
  DECLARE how VARCHAR(20);
  DECLARE stored BLOB;
  SELECT s.text, s.how INTO plain, how FROM sentence s WHERE s.n = n MOD 10;
  SET plain = CONCAT(plain, ' #', n);
  SET stored = CASE how
    WHEN 'latin1' THEN CAST(CONVERT(plain USING latin1) AS BINARY)
    WHEN 'utf8' THEN CAST(plain AS BINARY)
    WHEN 'twice' THEN CAST(CONVERT(CONVERT(CAST(plain AS BINARY) USING latin1) USING utf8mb4) AS BINARY)
    WHEN 'cp1251' THEN CAST(CONVERT(plain USING cp1251) AS BINARY)
  END;
  INSERT INTO post (member, title, body, written) VALUES (who, CONVERT(LEFT(stored, 200) USING latin1), CONVERT(stored USING latin1), NOW());
  INSERT INTO meant VALUES (LAST_INSERT_ID(), plain, plain);
END//
CREATE PROCEDURE say_all(n INT) FOR i IN 0 .. n - 1 DO CALL say(i, 1 + i MOD 50); END FOR//
DELIMITER ;
CALL say_all(600);
-- Half of a character, cut off by an old length limit, behind others that are whole.
INSERT INTO post (id, member, title, body, written) VALUES (2000, 3, 'cut', CONVERT(X'4772C3B6C39F6520C3' USING latin1), '2003-03-03');
INSERT INTO meant VALUES (2000, 'cut', 'Größe ');
