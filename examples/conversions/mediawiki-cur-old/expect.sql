-- old
SELECT cur_id, cur_namespace, cur_title, cur_counter, cur_is_redirect, cur_is_new, cur_random, cur_text FROM cur ORDER BY cur_id;
-- new
SELECT page_id, page_namespace, page_title, page_counter, page_is_redirect, page_is_new, page_random, CONVERT(old_text USING latin1)
FROM page JOIN revision ON rev_id = page_latest AND rev_page = page_id JOIN text ON old_id = rev_text_id ORDER BY page_id;

-- old
SELECT cur_title, old_id, old_timestamp, old_user, old_user_text, old_comment, old_text, old_flags, old_minor_edit FROM old, cur WHERE cur_title = old_title AND cur_namespace = old_namespace ORDER BY old_id;
-- new
SELECT page_title, rev_id, rev_timestamp, rev_user, rev_user_text, rev_comment, CONVERT(old_text USING latin1), old_flags, rev_minor_edit
FROM revision JOIN page ON page_id = rev_page JOIN text ON old_id = rev_text_id WHERE rev_id <> page_latest ORDER BY rev_id;

-- old
SELECT (SELECT COUNT(*) FROM cur) + (SELECT COUNT(*) FROM old), (SELECT COUNT(*) FROM cur) + (SELECT COUNT(*) FROM old WHERE (old_namespace, old_title) IN (SELECT cur_namespace, cur_title FROM cur));
-- new
SELECT (SELECT COUNT(*) FROM text), (SELECT COUNT(*) FROM revision);

-- old
SELECT cur_id, LENGTH(cur_text), cur_comment, cur_user_text, cur_timestamp, cur_minor_edit FROM cur ORDER BY cur_id;
-- new
SELECT page_id, page_len, rev_comment, rev_user_text, rev_timestamp, rev_minor_edit FROM page JOIN revision ON rev_id = page_latest ORDER BY page_id;

-- old
SELECT user_id, user_name, user_password, NULL FROM user ORDER BY user_id;
-- new
SELECT * FROM user ORDER BY user_id;
