-- old
SELECT p.id, p.member, m.title, m.body, p.written FROM post p JOIN meant m ON m.id = p.id ORDER BY p.id;
-- new
SELECT id, member, title, body, written FROM post ORDER BY id;

-- old
SELECT COUNT(*) FROM post;
-- new
SELECT COUNT(*) FROM post;

-- old
SELECT 'cp1251' UNION SELECT 'latin1' UNION SELECT 'utf8' UNION SELECT 'utf8 twice' ORDER BY 1;
-- new
SELECT DISTINCT was FROM post ORDER BY 1;

-- old
SELECT id, nick FROM member ORDER BY id;
-- new
SELECT id, nick FROM member ORDER BY id;
