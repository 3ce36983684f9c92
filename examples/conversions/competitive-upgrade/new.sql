-- A forum in the manner of Flarum: discussions with numbered posts, tags, Markdown.
CREATE TABLE users (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  username VARCHAR(100) NOT NULL UNIQUE,
  email VARCHAR(150) NOT NULL UNIQUE,
  is_email_confirmed BOOLEAN NOT NULL DEFAULT FALSE,
  joined_at DATETIME,
  discussion_count INT UNSIGNED NOT NULL DEFAULT 0,
  comment_count INT UNSIGNED NOT NULL DEFAULT 0,
  preferences BLOB
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE tags (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  slug VARCHAR(100) NOT NULL UNIQUE,
  position INT,
  parent_id INT UNSIGNED
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE discussions (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  title VARCHAR(200) NOT NULL,
  slug VARCHAR(255) NOT NULL,
  comment_count INT UNSIGNED NOT NULL,
  participant_count INT UNSIGNED NOT NULL,
  created_at DATETIME NOT NULL,
  user_id INT UNSIGNED,
  first_post_id INT UNSIGNED,
  last_post_id INT UNSIGNED,
  last_posted_at DATETIME,
  is_sticky BOOLEAN NOT NULL DEFAULT FALSE,
  is_locked BOOLEAN NOT NULL DEFAULT FALSE
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE TABLE discussion_tag (discussion_id INT UNSIGNED, tag_id INT UNSIGNED, PRIMARY KEY (discussion_id, tag_id)) ENGINE=InnoDB;
CREATE TABLE posts (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  discussion_id INT UNSIGNED NOT NULL,
  number INT UNSIGNED NOT NULL COMMENT 'within the discussion, without gaps',
  created_at DATETIME NOT NULL,
  user_id INT UNSIGNED,
  type VARCHAR(20) NOT NULL DEFAULT 'comment',
  content MEDIUMTEXT NOT NULL,
  edited_at DATETIME,
  hidden_at DATETIME,
  UNIQUE (discussion_id, number)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
-- Names that were ever written under, for mentions in texts; ids are the product's own.
CREATE TABLE mention_names (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(100) NOT NULL UNIQUE) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
INSERT INTO mention_names VALUES (1, 'everyone'), (2, 'José 3');
