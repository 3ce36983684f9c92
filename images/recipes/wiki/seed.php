<?php
require_once '/var/lib/mediawiki/maintenance/Maintenance.php';

use MediaWiki\MediaWikiServices;

/** Makes the users, or renders every page into the parser cache. */
class SeedWiki extends Maintenance {
	public function __construct() {
		parent::__construct();
		$this->addOption( 'users', 'make the users' );
		$this->addOption( 'render', 'render all pages' );
		$this->addOption( 'password', 'of all users', false, true );
	}

	public function execute() {
		if ( $this->hasOption( 'users' ) ) {
			$this->users( $this->getOption( 'password' ) );
		}
		if ( $this->hasOption( 'render' ) ) {
			$this->render();
		}
	}

	private function users( string $password ) {
		for ( $n = 1; $n <= 24; $n++ ) {
			$name = "Editor $n";
			$user = User::createNew( $name, [ 'real_name' => "Editor Nº $n ✏️", 'email' => "editor$n@example.org" ] );
			$status = $user->changeAuthenticationData( [ 'username' => $name, 'password' => $password, 'retype' => $password ] );
			if ( !$status->isGood() ) {
				$this->fatalError( $status->getWikiText( false, false, 'en' ) );
			}
		}
	}

	private function render() {
		$services = MediaWikiServices::getInstance();
		$db = $this->getDB( DB_REPLICA );
		$titles = $db->select( 'page', [ 'page_namespace', 'page_title' ], '', __METHOD__ );
		foreach ( $titles as $row ) {
			$page = $services->getWikiPageFactory()->newFromTitle( Title::makeTitle( $row->page_namespace, $row->page_title ) );
			$status = $services->getParserOutputAccess()->getParserOutput( $page, ParserOptions::newFromAnon() );
			if ( !$status->isOK() ) {
				$this->fatalError( "cannot render {$row->page_title}" );
			}
		}
		DeferredUpdates::doUpdates();
		$this->output( $titles->numRows() . " pages rendered\n" );
	}
}

$maintClass = SeedWiki::class;
require_once RUN_MAINTENANCE_IF_MAIN;
