-- What the wiki's tables lack before their rows can be followed. MediaWiki works
-- the same before and after.

-- MyISAM has no transactions: no clone could tell which of its rows it has.
ALTER TABLE searchindex ENGINE=InnoDB;
-- Two tables have no key that names a row. (So have querycache and
-- querycachetwo, which are only caches.)
ALTER TABLE oldimage ADD UNIQUE KEY oi_name_archive (oi_name, oi_archive_name);
ALTER TABLE user_newtalk ADD UNIQUE KEY un_user (user_id, user_ip);
