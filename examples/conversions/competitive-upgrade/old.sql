-- A board in the manner of phpBB: times are numbers, texts are BBCode, what is
-- deleted stays and is only hidden.
CREATE TABLE bb_users (
  user_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  user_type TINYINT NOT NULL DEFAULT 0 COMMENT '0 normal, 1 inactive, 2 robot, 3 founder',
  username VARCHAR(60) CHARACTER SET latin1 NOT NULL,
  user_email VARCHAR(100) CHARACTER SET latin1 NOT NULL DEFAULT '',
  user_regdate INT UNSIGNED NOT NULL,
  user_sig TEXT CHARACTER SET latin1 NOT NULL,
  UNIQUE (username)
) ENGINE=InnoDB;
CREATE TABLE bb_forums (
  forum_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  parent_id INT UNSIGNED NOT NULL DEFAULT 0,
  left_id INT UNSIGNED NOT NULL,
  forum_name VARCHAR(80) CHARACTER SET latin1 NOT NULL
) ENGINE=InnoDB;
CREATE TABLE bb_topics (
  topic_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  forum_id INT UNSIGNED NOT NULL,
  topic_title VARCHAR(120) CHARACTER SET latin1 NOT NULL,
  topic_poster INT UNSIGNED NOT NULL,
  topic_time INT UNSIGNED NOT NULL,
  topic_type TINYINT NOT NULL DEFAULT 0 COMMENT '0 normal, 1 sticky, 2 announcement',
  topic_status TINYINT NOT NULL DEFAULT 0 COMMENT '0 open, 1 locked',
  KEY (forum_id), KEY (topic_poster)
) ENGINE=InnoDB;
CREATE TABLE bb_posts (
  post_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  topic_id INT UNSIGNED NOT NULL,
  poster_id INT UNSIGNED NOT NULL,
  post_time INT UNSIGNED NOT NULL,
  post_text MEDIUMTEXT CHARACTER SET latin1 NOT NULL,
  post_edit_time INT UNSIGNED NOT NULL DEFAULT 0,
  post_hidden TINYINT NOT NULL DEFAULT 0,
  KEY (topic_id), KEY (poster_id)
) ENGINE=InnoDB;
CREATE TABLE bb_sessions (session_id CHAR(32) CHARACTER SET latin1 PRIMARY KEY, session_user_id INT UNSIGNED NOT NULL) ENGINE=InnoDB;

INSERT INTO bb_users VALUES (1, 2, 'Anonymous', '', 0, '');
INSERT INTO bb_users (user_type, username, user_email, user_regdate, user_sig)
  SELECT IF(seq MOD 20 = 0, 1, 0), CONCAT('José ', seq), CONCAT('user', seq, '@example.org'), 1000000000 + seq * 3600, '' FROM seq_1_to_150;
INSERT INTO bb_forums VALUES (1, 0, 1, 'General'), (2, 1, 2, 'Questions & Answers'), (3, 1, 4, 'Café'), (4, 0, 7, 'Archive');
INSERT INTO bb_topics (forum_id, topic_title, topic_poster, topic_time, topic_type, topic_status)
  SELECT 1 + seq MOD 4, CONCAT('Topic no. ', seq, ': how to?'), 2 + seq MOD 150, 1100000000 + seq * 600, IF(seq MOD 40 = 0, 2, seq MOD 50 = 0), seq MOD 30 = 0 FROM seq_1_to_300;
INSERT INTO bb_posts (topic_id, poster_id, post_time, post_text)
  SELECT 1 + seq MOD 300, IF(seq MOD 11 = 0, 1, 2 + (seq * 7) MOD 150), 1100000000 + seq * 600 + seq MOD 7,
         CONCAT('This is [b]post ', seq, '[/b], see [url=http://example.org/', seq, ']here[/url] and [i]caf', CHAR(0xE9 USING latin1), '[/i]') FROM seq_1_to_2000;
INSERT INTO bb_sessions VALUES (MD5('x'), 5);
-- The old product let two members have one address; the new one knows members by it.
INSERT INTO bb_users (user_id, username, user_email, user_regdate, user_sig) VALUES (900, 'Twin', 'USER7@example.org', 1200000000, '');
