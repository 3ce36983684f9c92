UPDATE product SET title = 'Thing without a name' WHERE id = 99;
