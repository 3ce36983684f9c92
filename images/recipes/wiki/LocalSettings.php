<?php
// Settings of the demonstration's wiki. The address of the database and the
// password come from the image's recipe.
if ( !defined( 'MEDIAWIKI' ) ) {
	exit;
}

$wgSitename = 'Imago Wiki';
$wgServer = '{{.wiki_server}}';
$wgScriptPath = '/mediawiki';
$wgResourceBasePath = $wgScriptPath;
$wgLanguageCode = 'en';
$wgLocaltimezone = 'UTC';

$wgDBtype = 'mysql';
$wgDBserver = '{{.db_address}}';
$wgDBname = 'wiki';
$wgDBuser = 'wiki';
$wgDBpassword = '{{.db_password}}';
$wgDBTableOptions = 'ENGINE=InnoDB, DEFAULT CHARSET=binary';

$wgSecretKey = '{{.wiki_secret}}';
// While this file is there, its text is why nobody may edit.
$wgReadOnlyFile = '/var/lib/mediawiki/read-only';
$wgUpgradeKey = '1f0e2d3c4b5a6978';
$wgAuthenticationTokenVersion = '1';

// What is in the memory of one machine is fast; what must outlive it, sessions
// and rendered pages, is in the database.
$wgMainCacheType = CACHE_ACCEL;
$wgSessionCacheType = CACHE_DB;
$wgParserCacheType = CACHE_DB;
$wgParserCacheExpireTime = 10 * 365 * 86400;
$wgMessageCacheType = CACHE_ACCEL;
$wgCacheDirectory = '/var/lib/mediawiki/cache';
$wgLocalisationCacheConf['store'] = 'array';
$wgLocalisationCacheConf['manualRecache'] = true;
$wgJobRunRate = 0;
$wgPingback = false;

$wgEnableUploads = true;
$wgFileExtensions = [ 'png', 'gif', 'jpg', 'jpeg', 'txt' ];
$wgUseImageMagick = false;
$wgShellLocale = 'C.UTF-8';

$wgEnableEmail = false;
$wgGroupPermissions['*']['edit'] = true;
$wgGroupPermissions['*']['createpage'] = true;
$wgGroupPermissions['*']['createaccount'] = true;
$wgRateLimits = [];
$wgPasswordAttemptThrottle = [];
$wgAccountCreationThrottle = [];
$wgShowExceptionDetails = true;

wfLoadSkin( 'MonoBook' );
wfLoadSkin( 'Vector' );
$wgDefaultSkin = 'monobook';
