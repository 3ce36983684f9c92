<?php
// Visits the wiki as people and programs do, so that every script they need is
// compiled. It fails when the wiki does not do what it should.

[ , $base, $password ] = $argv;
$jar = tempnam( '/tmp', 'jar' );
$cookies = [];

function visit( string $path, ?array $post = null, string $mustHave = '' ): string {
	global $base, $cookies;
	$header = "User-Agent: warm\r\n";
	foreach ( $cookies as $k => $v ) {
		$sep ??= 'Cookie: ';
		$header .= $sep . "$k=$v";
		$sep = '; ';
	}
	$options = [ 'method' => $post === null ? 'GET' : 'POST', 'header' => rtrim( $header ) . "\r\n", 'ignore_errors' => true,
		'timeout' => 60, 'follow_location' => 0 ];
	if ( $post !== null ) {
		$options['header'] .= "Content-Type: application/x-www-form-urlencoded\r\n";
		$options['content'] = http_build_query( $post );
	}
	$body = file_get_contents( $base . $path, false, stream_context_create( [ 'http' => $options ] ) );
	foreach ( $http_response_header as $line ) {
		if ( preg_match( '/^Set-Cookie: ([^=]+)=([^;]*)/i', $line, $m ) ) {
			$cookies[$m[1]] = $m[2];
		}
	}
	$status = $http_response_header[0] ?? 'no answer';
	if ( $body === false || !preg_match( '/ (200|30[1-4]) /', $status ) || ( $mustHave !== '' && strpos( $body, $mustHave ) === false ) ) {
		fwrite( STDERR, "visit $path: $status, wanted '$mustHave'\n" . substr( (string)$body, 0, 4000 ) . "\n" );
		exit( 1 );
	}
	return (string)$body;
}

function api( array $post ): array {
	return json_decode( visit( '/api.php', $post + [ 'format' => 'json' ] ), true );
}

for ( $try = 0; @file_get_contents( "$base/api.php?action=query&format=json" ) === false; $try++ ) {
	if ( $try > 100 ) {
		fwrite( STDERR, "the web server does not answer\n" );
		exit( 1 );
	}
	usleep( 100000 );
}

function read(): void {
	visit( '/index.php/Main_Page', null, 'page 0 of the wiki' );
	visit( '/index.php?title=Main_Page' );
	foreach ( [ 'action=history', 'action=raw', 'action=info', 'action=edit', 'action=purge', 'diff=prev', 'printable=yes', 'action=delete' ] as $q ) {
		visit( "/index.php?title=Main_Page&$q" );
	}
	foreach ( [ 'RecentChanges', 'AllPages', 'Random', 'Search?search=river&fulltext=1', 'ListUsers', 'ListFiles', 'Upload', 'UserLogin',
		'CreateAccount', 'Version', 'Statistics', 'WhatLinksHere/Main_Page', 'Contributions/Editor_1', 'SpecialPages', 'Categories', 'Log',
		'Export/Main_Page', 'NewPages' ] as $special ) {
		visit( "/index.php/Special:$special" );
	}
	visit( '/index.php/File:Picture_1.png', null, 'File 1' );
	visit( '/index.php/Category:Places' );
	visit( '/index.php/No_such_page_at_all' . '?action=edit' );
	visit( '/load.php?lang=en&modules=startup&only=scripts&raw=1&skin=monobook' );
	visit( '/load.php?lang=en&modules=site.styles|skins.monobook.styles&only=styles&skin=monobook' );
	visit( '/load.php?lang=en&modules=jquery|mediawiki.base|mediawiki.util&skin=monobook' );
	visit( '/rest.php/v1/page/Main_Page' );
}

function write( string $title ): void {
	$token = api( [ 'action' => 'query', 'meta' => 'tokens' ] )['query']['tokens']['csrftoken'];
	$edit = api( [ 'action' => 'edit', 'title' => $title, 'text' => "Warm [[Main Page]] 🌡️ {{Stub}}\n[[Category:Places]]", 'token' => $token ] );
	if ( ( $edit['edit']['result'] ?? '' ) !== 'Success' ) {
		fwrite( STDERR, 'edit: ' . json_encode( $edit ) . "\n" );
		exit( 1 );
	}
	api( [ 'action' => 'edit', 'title' => $title, 'appendtext' => "\nmore", 'token' => $token ] );
	visit( '/index.php/' . rawurlencode( strtr( $title, ' ', '_' ) ), null, 'more' );
	foreach ( [ [ 'action' => 'parse', 'page' => $title ], [ 'action' => 'query', 'list' => 'allpages|allrevisions|allimages|allusers|recentchanges' ],
		[ 'action' => 'query', 'prop' => 'revisions|info|categories|links|imageinfo', 'titles' => $title, 'rvprop' => 'content|ids|sha1|user|timestamp', 'rvslots' => '*' ],
		[ 'action' => 'query', 'meta' => 'siteinfo|userinfo|allmessages', 'siprop' => 'general|statistics', 'ammessages' => 'mainpage' ],
		[ 'action' => 'query', 'generator' => 'allpages', 'prop' => 'revisions', 'rvprop' => 'content|sha1', 'rvslots' => 'main' ] ] as $q ) {
		api( $q );
	}
}

// form edits as a browser does, with all the fields of the page's form.
function form( string $title ): void {
	$page = visit( '/index.php?title=' . rawurlencode( $title ) . '&action=edit', null, 'wpEditToken' );
	preg_match_all( '/<input[^>]*type=[\'"]hidden[\'"][^>]*>/', $page, $inputs );
	$fields = [ 'wpTextbox1' => "By form [[Main Page]]", 'wpSummary' => 'form', 'wpSave' => 'Save changes' ];
	foreach ( $inputs[0] as $input ) {
		if ( !str_contains( $input, 'name="title"' ) && preg_match( '/name=[\'"]([^\'"]+)/', $input, $n ) && preg_match( '/value=(?:"([^"]*)"|\'([^\']*)\')/', $input, $v ) ) {
			$fields[$n[1]] = html_entity_decode( $v[1] ?: ( $v[2] ?? '' ) );
		}
	}
	visit( '/index.php?title=' . rawurlencode( $title ) . '&action=submit', $fields );
	visit( '/index.php/' . rawurlencode( strtr( $title, ' ', '_' ) ), null, 'By form' );
}

read();
write( 'Warm anonymous' );
form( 'Warm form' );
$token = api( [ 'action' => 'query', 'meta' => 'tokens', 'type' => 'login' ] )['query']['tokens']['logintoken'];
$login = api( [ 'action' => 'clientlogin', 'username' => 'Editor 1', 'password' => $password, 'logintoken' => $token, 'loginreturnurl' => "$base/" ] );
if ( ( $login['clientlogin']['status'] ?? '' ) !== 'PASS' ) {
	fwrite( STDERR, 'login: ' . json_encode( $login ) . "\n" );
	exit( 1 );
}
read();
write( 'Warm user' );
form( 'Warm user form' );
for ( $i = 0; $i < 3; $i++ ) {
	visit( '/index.php/Main_Page' );
}
unlink( $jar );
