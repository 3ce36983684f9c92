// Package wikisql holds the test of the wiki upgrade's conversions: their SQL,
// on a real MariaDB, against what MediaWiki's own update made of the same rows.
//
// testdata/old.sql.gz is a wiki of MediaWiki 1.39: the demonstration's, with
// blocks of all kinds, awkward URLs and rows as old faults left them, all but the
// latter written by MediaWiki's own code (testdata/hard.php is what was run). testdata/updated.sql.gz is the same wiki
// after 1.43's update.php, and testdata/new.sql.gz are the tables alone, which are
// the same whether update.php found them full or empty. Texts, and most of the
// search index, are left out.
package wikisql
