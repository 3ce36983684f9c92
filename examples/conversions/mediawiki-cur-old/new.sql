-- MediaWiki 1.5: a page, its revisions, and their texts.
CREATE TABLE page (
  page_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  page_namespace INT NOT NULL,
  page_title VARCHAR(255) BINARY NOT NULL,
  page_restrictions TINYBLOB NOT NULL,
  page_counter BIGINT UNSIGNED NOT NULL DEFAULT 0,
  page_is_redirect TINYINT UNSIGNED NOT NULL DEFAULT 0,
  page_is_new TINYINT UNSIGNED NOT NULL DEFAULT 0,
  page_random REAL UNSIGNED NOT NULL,
  page_touched CHAR(14) BINARY NOT NULL DEFAULT '',
  page_latest INT UNSIGNED NOT NULL,
  page_len INT UNSIGNED NOT NULL,
  UNIQUE name_title (page_namespace, page_title)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE revision (
  rev_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  rev_page INT UNSIGNED NOT NULL,
  rev_text_id INT UNSIGNED NOT NULL,
  rev_comment TINYBLOB NOT NULL,
  rev_user INT UNSIGNED NOT NULL DEFAULT 0,
  rev_user_text VARCHAR(255) BINARY NOT NULL DEFAULT '',
  rev_timestamp CHAR(14) BINARY NOT NULL DEFAULT '',
  rev_minor_edit TINYINT UNSIGNED NOT NULL DEFAULT 0,
  rev_deleted TINYINT UNSIGNED NOT NULL DEFAULT 0,
  UNIQUE rev_page_id (rev_page, rev_id)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE text (
  old_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  old_text MEDIUMBLOB NOT NULL,
  old_flags TINYBLOB NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
CREATE TABLE user (
  user_id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  user_name VARCHAR(255) BINARY NOT NULL DEFAULT '',
  user_password TINYBLOB NOT NULL,
  user_email_authenticated CHAR(14) BINARY,
  UNIQUE (user_name)
) ENGINE=InnoDB DEFAULT CHARSET=latin1;
