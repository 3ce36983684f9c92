// Package recipes holds the image recipes that imago ships: Debian bases, small
// guests, a store, and the wiki of the demonstration. It owns no code.
package recipes

import "embed"

// FS has each recipe as NAME.yaml, and the files they name beside them.
//
//go:embed *.yaml base small store wiki
var FS embed.FS
