-- MediaWiki 1.4: the current text of each page is in cur, all earlier ones are in
-- old, and both name the page by its title.
CREATE TABLE cur (
  cur_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  cur_namespace TINYINT UNSIGNED NOT NULL DEFAULT 0,
  cur_title VARCHAR(255) BINARY NOT NULL DEFAULT '',
  cur_text MEDIUMTEXT NOT NULL,
  cur_comment TINYBLOB NOT NULL,
  cur_user INT UNSIGNED NOT NULL DEFAULT 0,
  cur_user_text VARCHAR(255) BINARY NOT NULL DEFAULT '',
  cur_timestamp CHAR(14) BINARY NOT NULL DEFAULT '',
  cur_restrictions TINYBLOB NOT NULL,
  cur_counter BIGINT UNSIGNED NOT NULL DEFAULT 0,
  cur_is_redirect TINYINT UNSIGNED NOT NULL DEFAULT 0,
  cur_minor_edit TINYINT UNSIGNED NOT NULL DEFAULT 0,
  cur_is_new TINYINT UNSIGNED NOT NULL DEFAULT 0,
  cur_random REAL UNSIGNED NOT NULL,
  cur_touched CHAR(14) BINARY NOT NULL DEFAULT '',
  inverse_timestamp CHAR(14) BINARY NOT NULL DEFAULT '',
  KEY (cur_namespace, cur_title(20)), KEY (cur_timestamp)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE old (
  old_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  old_namespace TINYINT UNSIGNED NOT NULL DEFAULT 0,
  old_title VARCHAR(255) BINARY NOT NULL DEFAULT '',
  old_text MEDIUMTEXT NOT NULL,
  old_comment TINYBLOB NOT NULL,
  old_user INT UNSIGNED NOT NULL DEFAULT 0,
  old_user_text VARCHAR(255) BINARY NOT NULL,
  old_timestamp CHAR(14) BINARY NOT NULL DEFAULT '',
  old_minor_edit TINYINT NOT NULL DEFAULT 0,
  old_flags TINYBLOB NOT NULL,
  inverse_timestamp CHAR(14) BINARY NOT NULL DEFAULT '',
  KEY (old_namespace, old_title(20)), KEY (old_timestamp)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE user (
  user_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  user_name VARCHAR(255) BINARY NOT NULL DEFAULT '',
  user_password TINYBLOB NOT NULL,
  UNIQUE (user_name)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE objectcache (keyname CHAR(255) BINARY PRIMARY KEY, value MEDIUMBLOB) ENGINE=InnoDB DEFAULT CHARSET=latin1;

INSERT INTO user (user_name, user_password) SELECT CONCAT('User', seq), '' FROM seq_1_to_30;
INSERT INTO cur (cur_namespace, cur_title, cur_text, cur_comment, cur_user, cur_user_text, cur_timestamp, cur_restrictions, cur_counter, cur_random, cur_is_redirect)
  SELECT seq MOD 3, CONCAT('Page_', seq), CONCAT('Text of ', seq, ', the third one: ', REPEAT('wiki ', seq MOD 50)), 'third', 1 + seq MOD 30, CONCAT('User', 1 + seq MOD 30),
         DATE_FORMAT('2004-06-01' + INTERVAL seq HOUR, '%Y%m%d%H%i%s'), '', seq, seq / 1000, seq MOD 25 = 0 FROM seq_1_to_400;
INSERT INTO old (old_namespace, old_title, old_text, old_comment, old_user, old_user_text, old_timestamp, old_flags)
  SELECT p.seq MOD 3, CONCAT('Page_', p.seq), CONCAT('Text of ', p.seq, ', number ', r.seq), CONCAT('no. ', r.seq), 0, '10.0.0.7',
         DATE_FORMAT('2003-01-01' + INTERVAL p.seq HOUR + INTERVAL r.seq MONTH, '%Y%m%d%H%i%s'), IF(r.seq = 2, 'utf-8', '') FROM seq_1_to_2 r, seq_1_to_400 p WHERE p.seq MOD 4 < 3;
-- A page that two requests made at the same time: 1.4 had no unique key against it.
INSERT INTO cur (cur_id, cur_namespace, cur_title, cur_text, cur_comment, cur_user_text, cur_timestamp, cur_restrictions, cur_random)
  VALUES (7000, 0, 'Page_3', 'The same title once more', '', '10.0.0.8', '20040701000000', '', 0.5);

DELIMITER //
-- What index.php did for an edit, a new page, and a move.
CREATE PROCEDURE edit(page INT, words TEXT)
BEGIN
  INSERT INTO old (old_namespace, old_title, old_text, old_comment, old_user, old_user_text, old_timestamp, old_minor_edit, old_flags)
    SELECT cur_namespace, cur_title, cur_text, cur_comment, cur_user, cur_user_text, cur_timestamp, cur_minor_edit, '' FROM cur WHERE cur_id = page;
  UPDATE cur SET cur_text = words, cur_comment = 'edit', cur_user = 2, cur_user_text = 'User2', cur_timestamp = DATE_FORMAT(NOW(), '%Y%m%d%H%i%s'), cur_minor_edit = page MOD 2 WHERE cur_id = page;
END//
CREATE PROCEDURE rename_page(page INT, to_title VARCHAR(255))
BEGIN
  DECLARE ns TINYINT UNSIGNED;
  DECLARE from_title VARCHAR(255);
  SELECT cur_namespace, cur_title INTO ns, from_title FROM cur WHERE cur_id = page FOR UPDATE;
  UPDATE cur SET cur_title = to_title WHERE cur_id = page;
  UPDATE old SET old_title = to_title WHERE old_namespace = ns AND old_title = from_title;
END//
DELIMITER ;
