package apply

import (
	"testing"

	"imago.dev/imago/transfer/convert/dbtest"
)

// startServer runs a server whose temporary tables are its own: one that starts
// clears the directory for those of all servers that use it.
func startServer(t testing.TB, options ...string) *dbtest.Server {
	return dbtest.Start(t, append(options, "--tmpdir="+t.TempDir())...)
}
