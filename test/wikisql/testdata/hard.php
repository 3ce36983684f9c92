<?php
// Run by MediaWiki 1.39 on the demonstration's wiki: adds the rows of which testdata/old.sql.gz tells.
require_once '/var/lib/mediawiki/maintenance/Maintenance.php';
use MediaWiki\MediaWikiServices;
class Hard extends Maintenance {
	public function execute() {
		$db = $this->getDB( DB_PRIMARY );
		$s = MediaWikiServices::getInstance();
		$urls = [ 'http://example.org', 'http://example.org?q=1', 'http://example.org#frag', 'https://user:pw@Example.ORG:8443/A/b?c=d#e',
			'//proto.relative.example/x', '//proto.relative.example', 'mailto:Joe@Example.org', 'mailto:joe@example.org?subject=Hi%20you', 'mailto:nodomain', 'news:comp.lang.c', 'news://news.example.net/group',
			'tel:+41441234567', 'sip:Alice@Example.org', 'sms:+123?body=hi', 'geo:47.37,8.54', 'urn:isbn:0451450523', 'magnet:?xt=urn:btih:abc', 'bitcoin:175tWpb8K1S7NmH4Zx6rewF9WQrcZv245W', 'xmpp:me@example.org/res',
			'ftp://ftp.example.org/pub/', 'ftps://x.example/', 'irc://irc.example.net/chan', 'ircs://irc.example.net', 'git://g.example/x.git', 'svn://s.example', 'ssh://h.example:22/x', 'gopher://gopher.example/1', 'telnet://t.example', 'nntp://n.example/a', 'worldwind://w.example/x', 'redis://r.example/0', 'mms://m.example/x', 'sftp://s.example/y',
			'http://192.0.2.7/ip', 'http://192.0.2.007:8080/ip', 'http://[2001:db8::1]/six', 'http://[2001:DB8::1]:81', 'http://example.org./dot', 'http://zürich.example/straße?ü=ä', 'http://xn--zrich-kva.example/p', 'http://京都.example/寺', 'http://%65xample.org/pct',
			'http://a.example//double//slash', 'http://a.example/?', 'http://a.example/#', 'http://a.example?', 'http://a.example/' . str_repeat( 'long/', 300 ), 'http://' . str_repeat( 'label.', 50 ) . 'example/x', 'HTTP://UPPER.example/', 'http://a.example/a b', 'https://a.example/?u=http://b.example/z#k', 'http://a.example:80/', 'http://a_b.example/', 'http://a.example:99999/', 'file:///c:/x', 'http:///nohost', 'matrix:u/alice:example.org', 'https://b.example/?a/b', 'https://b.example#a/b', 'https://b.example:443?x' ];
		$id = 5000;
		foreach ( $urls as $u ) {
			$ix = LinkFilter::makeIndexes( $u );
			if ( !$ix ) { $this->output( "1.39 does not index: $u\n" ); }
			foreach ( $ix as $index ) {
				$db->insert( 'externallinks', [ 'el_id' => ++$id, 'el_from' => 1, 'el_to' => $u, 'el_index' => $index, 'el_index_60' => substr( $index, 0, 60 ) ], __METHOD__ );
			}
		}
		// Blocks through the wiki's own code.
		$admin = $s->getUserFactory()->newFromName( 'Admin' );
		foreach ( [ 'Editor 3' => 'infinity', 'Editor 4' => '1 month', '192.0.2.77' => '1 week', '198.51.100.0/24' => 'infinity', '2001:DB8::5' => '3 days', '2001:db8:1::/48' => '1 year' ] as $who => $exp ) {
			$u = $s->getBlockUserFactory()->newBlockUser( $who, $admin, $exp, "why $who 🌩️", [ 'isCreateAccountBlocked' => true, 'isAutoblocking' => true, 'isEmailBlocked' => $who === 'Editor 4' ] );
			$st = $u->placeBlockUnsafe(); if ( !$st->isGood() ) $this->output( "$who: " . $st->getWikiText( false, false, 'en' ) . "\n" );
		}
		$p = $s->getBlockUserFactory()->newBlockUser( 'Editor 5', $admin, '1 month', 'partial', [], [ new MediaWiki\Block\Restriction\PageRestriction( 0, 1 ), new MediaWiki\Block\Restriction\NamespaceRestriction( 0, 2 ) ] );
		$st = $p->placeBlockUnsafe(); if ( !$st->isGood() ) $this->output( "partial: " . $st->getWikiText( false, false, 'en' ) . "\n" );
		$b = MediaWiki\Block\DatabaseBlock::newFromTarget( 'Editor 3' );
		$this->output( "autoblock: " . var_export( $b->doAutoblock( '203.0.113.9' ), true ) . "\n" );
		$this->output( "autoblock: " . var_export( $b->doAutoblock( '2001:db8::77' ), true ) . "\n" );
		// an unblocked autoblock leaves a log line with the old, wrong title
		$auto = $db->selectField( 'ipblocks', 'ipb_id', [ 'ipb_auto' => 1 ], __METHOD__ );
		$st = $s->getUnblockUserFactory()->newUnblockUser( "#$auto", $admin, 'not him' )->unblockUnsafe();
		$this->output( 'unblock: ' . ( $st->isGood() ? 'ok' : $st->getWikiText( false, false, 'en' ) ) . "\n" );
		// rows as they were left by old faults
		$db->insert( 'ipblocks', [ 'ipb_id' => 900, 'ipb_address' => 'Long Gone', 'ipb_user' => 0, 'ipb_by_actor' => 1, 'ipb_reason_id' => 1, 'ipb_timestamp' => $db->timestamp(), 'ipb_expiry' => 'infinity', 'ipb_range_start' => '', 'ipb_range_end' => '', 'ipb_parent_block_id' => 0 ], __METHOD__ );
		$db->insert( 'ipblocks', [ 'ipb_id' => 901, 'ipb_address' => '192.0.2.99', 'ipb_user' => 0, 'ipb_by_actor' => 1, 'ipb_reason_id' => 1, 'ipb_timestamp' => $db->timestamp(), 'ipb_expiry' => '20200101000000', 'ipb_range_start' => '', 'ipb_range_end' => '', 'ipb_parent_block_id' => 0 ], __METHOD__ );
		$db->insert( 'logging', [ 'log_type' => 'block', 'log_action' => 'unblock', 'log_timestamp' => $db->timestamp(), 'log_actor' => 1, 'log_namespace' => 2, 'log_title' => 'User:#77', 'log_comment_id' => 1, 'log_params' => '' ], __METHOD__ );
		$db->insert( 'user_autocreate_serial', [ 'uas_shard' => 0, 'uas_value' => 7 ], __METHOD__ );
		$db->insert( 'user_newtalk', [ [ 'user_id' => 3, 'user_ip' => '', 'user_last_timestamp' => null ], [ 'user_id' => 0, 'user_ip' => '192.0.2.1', 'user_last_timestamp' => '20250101000000' ] ], __METHOD__ );
		foreach ( [ 'wiki:MWSession:abc', 'wiki:MWSession:ünï', 'wiki:pcache:idhash:1', 'other:MWSession:x' ] as $k ) {
			$db->insert( 'objectcache', [ 'keyname' => $k, 'value' => "\x78\x00\xff'\\", 'exptime' => '20300101000000', 'flags' => null ], __METHOD__ );
		}
		// pages with links of all kinds, a redirect, a category, protection, a deleted page, a second version of a file
		$this->page( 'Links 🌉', "[[Main Page]] [[Nowhere yet]] [[:Category:Places]] [[User:Editor 3]] [[File:Picture 1.png]] {{Stub}} {{No such}} [[Template:Stub]] [[:No such]] [[京都]] [[Category:New]] [https://example.org/x?y#z] mailto:a@b.example //c.example/" );
		$this->page( 'Way', '#REDIRECT [[Main Page#top]]' );
		$this->page( 'Template:Stub', 'stub, again [[Template link]]' );
		$this->page( 'Doomed', 'text' ); $this->page( 'Doomed', 'text two' );
		$t = Title::newFromText( 'Doomed' );
		$s->getDeletePageFactory()->newDeletePage( $s->getWikiPageFactory()->newFromTitle( $t ), $admin )->deleteUnsafe( 'gone' );
		$s->getWikiPageFactory()->newFromTitle( Title::newFromText( 'Way' ) )->doUpdateRestrictions( [ 'edit' => 'sysop' ], [ 'edit' => 'infinity' ], $c, 'p', $admin );
		$s->getWatchedItemStore()->addWatch( $admin, Title::newFromText( 'Way' ), '1 month' );
		$f = $s->getRepoGroup()->getLocalRepo()->newFile( 'Notes_16.txt' );
		file_put_contents( '/tmp/n.txt', 'another text' );
		$st = $f->upload( '/tmp/n.txt', 'again', 'again', 0, false, false, $admin );
		$this->output( 'upload: ' . ( $st->isGood() ? 'ok' : $st->getWikiText( false, false, 'en' ) ) . "\n" );
		DeferredUpdates::doUpdates();
	}
	private function page( $title, $text ) {
		$s = MediaWikiServices::getInstance();
		$u = $s->getUserFactory()->newFromName( 'Editor 2' );
		$st = $s->getWikiPageFactory()->newFromTitle( Title::newFromText( $title ) )->doUserEditContent( new WikitextContent( $text ), $u, "made $title" );
		if ( !$st->isGood() ) $this->output( "$title: " . $st->getWikiText( false, false, 'en' ) . "\n" );
		DeferredUpdates::doUpdates();
	}
}
$maintClass = Hard::class;
require_once RUN_MAINTENANCE_IF_MAIN;
