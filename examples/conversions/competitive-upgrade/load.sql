BEGIN;
INSERT INTO bb_topics (forum_id, topic_title, topic_poster, topic_time) VALUES (1 + FLOOR(RAND() * 4), CONCAT('News at ', NOW()), 2 + FLOOR(RAND() * 150), UNIX_TIMESTAMP());
SET @t = LAST_INSERT_ID();
INSERT INTO bb_posts (topic_id, poster_id, post_time, post_text) VALUES (@t, 2, UNIX_TIMESTAMP(), 'First [b]words[/b]');
INSERT INTO bb_posts (topic_id, poster_id, post_time, post_text) VALUES (@t, 1, UNIX_TIMESTAMP(), '[i]a guest[/i]');
COMMIT;
INSERT INTO bb_posts (topic_id, poster_id, post_time, post_text) VALUES (1 + FLOOR(RAND() * 300), 2 + FLOOR(RAND() * 150), UNIX_TIMESTAMP(), 'Reply with [url=http://x/]link[/url]');
UPDATE bb_posts SET post_text = CONCAT(post_text, ' [b]edited[/b]'), post_edit_time = UNIX_TIMESTAMP() WHERE post_id = 1 + FLOOR(RAND() * 2000);
UPDATE bb_posts SET post_hidden = 1 - post_hidden WHERE post_id = 1 + FLOOR(RAND() * 2000);
DELETE FROM bb_posts WHERE post_id = 1 + FLOOR(RAND() * 2000) AND RAND() < 0.5;
-- A post is moved to another topic, a topic to another forum.
UPDATE bb_posts SET topic_id = 1 + FLOOR(RAND() * 300) WHERE post_id = 1 + FLOOR(RAND() * 2000);
UPDATE bb_topics SET forum_id = 1 + FLOOR(RAND() * 4), topic_status = 1 - topic_status WHERE topic_id = 1 + FLOOR(RAND() * 300);
INSERT INTO bb_users (username, user_email, user_regdate, user_sig) VALUES (CONCAT('n', UUID_SHORT()), CONCAT(UUID_SHORT(), '@example.net'), UNIX_TIMESTAMP(), '');
UPDATE bb_users SET username = CONCAT('Zoë ', UUID_SHORT()) WHERE user_id = 50 + FLOOR(RAND() * 90);
UPDATE bb_forums SET parent_id = 1 - parent_id WHERE forum_id = 3 AND RAND() < 0.2;
