-- old
SELECT user_id, username, user_email, IF(user_type = 1, 0, 1), FROM_UNIXTIME(user_regdate),
       COALESCE(n, 0), COALESCE(c, 0)
FROM bb_users u LEFT JOIN (SELECT topic_poster, COUNT(*) AS n FROM bb_topics GROUP BY 1) t ON topic_poster = user_id
     LEFT JOIN (SELECT poster_id, COUNT(*) AS c FROM bb_posts WHERE post_hidden = 0 GROUP BY 1) p ON poster_id = user_id
WHERE user_id <> 1 ORDER BY user_id;
-- new
SELECT id, username, email, is_email_confirmed, joined_at, discussion_count, comment_count FROM users ORDER BY id;

-- old
SELECT 'General', '1-general', NULL UNION ALL SELECT 'Questions & Answers', '2-questions-answers', 1 UNION ALL SELECT 'Café', '3-caf', (SELECT IF(parent_id, 1, NULL) FROM bb_forums WHERE forum_id = 3) UNION ALL SELECT 'Archive', '4-archive', NULL;
-- new
SELECT name, slug, parent_id FROM tags ORDER BY id;

-- old
SELECT topic_id, topic_title, FROM_UNIXTIME(topic_time), IF(topic_poster = 1, NULL, topic_poster), IF(topic_type IN (1, 2), 1, 0), topic_status,
       (SELECT COUNT(*) FROM bb_posts p WHERE p.topic_id = t.topic_id AND post_hidden = 0),
       (SELECT post_id FROM bb_posts p WHERE p.topic_id = t.topic_id AND post_hidden = 0 ORDER BY post_id DESC LIMIT 1)
FROM bb_topics t ORDER BY 1;
-- new
SELECT id, title, created_at, user_id, is_sticky, is_locked, comment_count, last_post_id FROM discussions ORDER BY id;

-- old
SELECT post_id, topic_id, (SELECT COUNT(*) FROM bb_posts q WHERE q.topic_id = p.topic_id AND (q.post_time < p.post_time OR q.post_time = p.post_time AND q.post_id <= p.post_id)),
       IF(poster_id = 1, NULL, poster_id), post_hidden, post_edit_time
FROM bb_posts p ORDER BY 1;
-- new
SELECT id, discussion_id, number, user_id, hidden_at IS NOT NULL, COALESCE(UNIX_TIMESTAMP(edited_at), 0) FROM posts ORDER BY id;

-- old
SELECT post_id, CONVERT(post_text USING utf8mb4) FROM bb_posts ORDER BY 1;
-- new
SELECT id, REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(content, '\\*\\*(.*?)\\*\\*', '[b]\\1[/b]'), '\\*(.*?)\\*', '[i]\\1[/i]'), '\\[([^]/]*)\\]\\(([^)]*)\\)', '[url=\\2]\\1[/url]')
FROM posts ORDER BY id;

-- old
SELECT topic_id, forum_id FROM bb_topics UNION SELECT topic_id, parent_id FROM bb_topics JOIN bb_forums USING (forum_id) WHERE parent_id > 0 ORDER BY 1, 2;
-- new
SELECT discussion_id, tag_id FROM discussion_tag ORDER BY 1, 2;

-- old
SELECT COUNT(*), SUM(username LIKE 'n%') FROM bb_users WHERE user_id <> 1;
-- new
SELECT COUNT(*), SUM(m.name LIKE 'n%') FROM mention_names m JOIN users u ON u.username = m.name;

-- old
SELECT 1, 'everyone' UNION ALL SELECT 2, 'José 3';
-- new
SELECT id, name FROM mention_names WHERE id <= 2 ORDER BY id;
