UPDATE bb_users SET user_email = 'twin@example.org' WHERE user_id = 900;
