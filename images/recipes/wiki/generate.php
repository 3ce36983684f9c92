<?php
// Writes pages.xml and files/ into the directory given: the same bytes each time.

const PAGES = 220;
const USERS = 24;
const FILES = 16;

mt_srand( 20260101 );
$dir = $argv[1];

const WORDS = [ 'ancient', 'archive', 'bridge', 'canal', 'city', 'cloud', 'coast', 'craft', 'delta', 'engine', 'festival',
	'field', 'forest', 'garden', 'glass', 'granite', 'harbour', 'history', 'island', 'journey', 'lantern', 'library',
	'market', 'meadow', 'memory', 'mill', 'mountain', 'museum', 'north', 'observatory', 'orchard', 'paper', 'pattern',
	'people', 'quarry', 'railway', 'river', 'school', 'season', 'silver', 'station', 'stone', 'summer', 'theatre', 'tower',
	'trade', 'valley', 'village', 'water', 'weather', 'winter', 'workshop' ];
const UTF8 = [ 'Zürich', 'Łódź', 'Ærøskøbing', 'Reykjavík', '京都', 'Αθήνα', 'Київ', 'القاهرة', 'תל אביב', '서울', 'São Paulo', 'Đà Nẵng' ];
const EMOJI = [ '🌉', '🏔️', '🚂', '📚', '🌧️', '🦉', '🧭', '🎭', '🐟', '👩‍🌾' ];
const CATEGORIES = [ 'Places', 'Trades', 'Buildings', 'Rivers', 'Festivals', 'People', 'Weather', 'Transport' ];

function pick( array $from ) {
	return $from[mt_rand( 0, count( $from ) - 1 )];
}

function title( int $n ): string {
	if ( $n === 0 ) {
		return 'Main Page';
	}
	if ( $n % 17 === 0 ) {
		return UTF8[intdiv( $n, 17 ) % count( UTF8 )] . ' ' . $n;
	}
	if ( $n % 41 === 0 ) {
		return 'Emoji ' . EMOJI[intdiv( $n, 41 ) % count( EMOJI )] . ' ' . $n;
	}
	return ucfirst( WORDS[$n % count( WORDS )] ) . ' ' . WORDS[( $n * 7 + 3 ) % count( WORDS )] . ' ' . $n;
}

// hub is the page of its kind that links go to. The wiki's update works link
// target by link target, so their number decides how long it takes.
function hub( int $n ): string {
	return title( intdiv( $n, 11 ) * 11 );
}

function sentence(): string {
	$words = [];
	for ( $i = mt_rand( 7, 16 ); $i > 0; $i-- ) {
		$words[] = pick( WORDS );
	}
	return ucfirst( implode( ' ', $words ) ) . '.';
}

function paragraph( int $page ): string {
	$text = '';
	for ( $i = mt_rand( 3, 6 ); $i > 0; $i-- ) {
		$text .= sentence() . ' ';
	}
	$target = hub( mt_rand( 0, PAGES - 1 ) );
	return $text . "See [[$target]] and [[" . hub( ( $page * 3 + 1 ) % PAGES ) . '|a neighbour]] near ' . pick( UTF8 ) . ' ' .
		pick( EMOJI ) . ".\n\n";
}

function body( int $page, int $paragraphs ): string {
	$text = "'''" . title( $page ) . "''' is page $page of the wiki. {{Stub|" . pick( WORDS ) . "}}\n\n";
	for ( $i = 0; $i < $paragraphs; $i++ ) {
		if ( $i % 2 === 1 ) {
			$text .= '== ' . ucfirst( pick( WORDS ) ) . " ==\n";
		}
		$text .= paragraph( $page );
	}
	$text .= "{| class=\"wikitable\"\n! Year !! Count\n|-\n| " . ( 1800 + $page ) . ' || ' . mt_rand( 1, 9999 ) . "\n|}\n\n";
	if ( $page % 9 === 0 ) {
		$text .= '[[File:Picture ' . ( intdiv( $page, 9 ) % ( FILES - 4 ) + 1 ) . ".png|thumb|A picture]]\n";
	}
	if ( $page % 6 === 0 ) {
		$text .= "* [https://example.org/page/$page An outside source]\n";
	}
	return $text . '[[Category:' . CATEGORIES[$page % count( CATEGORIES )] . "]]\n[[Category:" . pick( CATEGORIES ) . "]]\n";
}

function page( XMLWriter $x, string $title, int $ns, array $texts, int &$clock ): void {
	$x->startElement( 'page' );
	$x->writeElement( 'title', $title );
	$x->writeElement( 'ns', (string)$ns );
	foreach ( $texts as $i => $text ) {
		$clock += mt_rand( 600, 7200 );
		$x->startElement( 'revision' );
		$x->writeElement( 'timestamp', gmdate( 'Y-m-d\TH:i:s\Z', $clock ) );
		$x->startElement( 'contributor' );
		if ( mt_rand( 0, 9 ) === 0 ) {
			$x->writeElement( 'ip', '192.0.2.' . mt_rand( 1, 254 ) );
		} else {
			$x->writeElement( 'username', 'Editor ' . mt_rand( 1, USERS ) );
		}
		$x->endElement();
		$x->writeElement( 'comment', $i === 0 ? 'new page ' . pick( EMOJI ) : 'about ' . pick( WORDS ) );
		$x->writeElement( 'model', 'wikitext' );
		$x->writeElement( 'format', 'text/x-wiki' );
		$x->writeElement( 'text', $text );
		$x->endElement();
	}
	$x->endElement();
}

function pages( string $file ): void {
	$x = new XMLWriter();
	$x->openUri( $file );
	$x->startDocument( '1.0', 'UTF-8' );
	$x->startElement( 'mediawiki' );
	$x->writeAttribute( 'xmlns', 'http://www.mediawiki.org/xml/export-0.11/' );
	$x->writeAttribute( 'version', '0.11' );
	$x->writeAttribute( 'xml:lang', 'en' );
	$clock = gmmktime( 0, 0, 0, 1, 1, 2024 );
	page( $x, 'Template:Stub', 10, [ "''This page about {{{1|something}}} is short.''[[Category:Stubs]]" ], $clock );
	foreach ( CATEGORIES as $name ) {
		page( $x, "Category:$name", 14, [ "All about $name.\n[[Category:Everything]]" ], $clock );
	}
	for ( $n = 0; $n < PAGES; $n++ ) {
		$texts = [];
		for ( $r = 0, $count = mt_rand( 3, 5 ); $r < $count; $r++ ) {
			$texts[] = body( $n, 2 + $r );
		}
		page( $x, title( $n ), 0, $texts, $clock );
	}
	for ( $n = 1; $n <= 12; $n++ ) {
		page( $x, 'Talk:' . title( $n ), 1, [ sentence() . ' ~ [[User:Editor ' . $n . ']]', sentence() . "\n\n" . sentence() ], $clock );
	}
	$x->endElement();
	$x->endDocument();
	$x->flush();
}

function chunk( string $type, string $data ): string {
	return pack( 'N', strlen( $data ) ) . $type . $data . pack( 'N', crc32( $type . $data ) );
}

// picture draws with arithmetic alone, so no image library is needed.
function picture( int $n, int $size ): string {
	$rows = '';
	for ( $y = 0; $y < $size; $y++ ) {
		$rows .= "\0";
		for ( $x = 0; $x < $size; $x++ ) {
			$rows .= chr( $x * $n & 255 ) . chr( $y * ( $n + 3 ) & 255 ) . chr( ( $x ^ $y ) + 16 * $n & 255 );
		}
	}
	return "\x89PNG\r\n\x1a\n" . chunk( 'IHDR', pack( 'NNCCCCC', $size, $size, 8, 2, 0, 0, 0 ) ) .
		chunk( 'IDAT', gzcompress( $rows, 6 ) ) . chunk( 'IEND', '' );
}

function files( string $dir ): void {
	mkdir( $dir );
	for ( $n = 1; $n <= FILES; $n++ ) {
		$name = $n > FILES - 4 ? "Notes $n.txt" : "Picture $n.png";
		$data = $n > FILES - 4 ? str_repeat( sentence() . ' ' . pick( UTF8 ) . ' ' . pick( EMOJI ) . "\n", 20 ) : picture( $n, 96 + 8 * $n );
		file_put_contents( "$dir/$name", $data );
		file_put_contents( "$dir/" . pathinfo( $name, PATHINFO_FILENAME ) . '.desc', "File $n, " . pick( UTF8 ) . '. [[Category:' . pick( CATEGORIES ) . ']]' );
	}
}

pages( "$dir/pages.xml" );
files( "$dir/files" );
