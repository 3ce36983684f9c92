BEGIN;
CALL edit(1 + FLOOR(RAND() * 400), CONCAT('Edited at ', NOW(6)));
COMMIT;
BEGIN;
CALL edit(1 + FLOOR(RAND() * 20), CONCAT('Often edited ', RAND()));
COMMIT;
INSERT INTO cur (cur_namespace, cur_title, cur_text, cur_comment, cur_user_text, cur_timestamp, cur_restrictions, cur_random, cur_is_new) VALUES (0, CONCAT('New_', UUID()), 'new page', '', '10.0.0.9', DATE_FORMAT(NOW(), '%Y%m%d%H%i%s'), '', RAND(), 1);
BEGIN;
CALL rename_page(10 + FLOOR(RAND() * 390), CONCAT('Moved_', UUID()));
COMMIT;
UPDATE cur SET cur_counter = cur_counter + 1 WHERE cur_id = 1 + FLOOR(RAND() * 400);
-- A deletion: cur goes, what was in old stays behind without a page.
DELETE FROM cur WHERE cur_id = 300 + FLOOR(RAND() * 100) AND RAND() < 0.3;
INSERT INTO user (user_name, user_password) VALUES (UUID(), 'x');
BEGIN;
CALL edit(1 + FLOOR(RAND() * 400), 'thought better of it');
ROLLBACK;
