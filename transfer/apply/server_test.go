package apply

import (
	"sync"
	"testing"

	"imago.dev/imago/transfer/convert/dbtest"
)

// starting lets one server start at a time: while it is installed, it clears the
// directory for temporary tables, which those that are being installed share.
var starting sync.Mutex

// StartServer runs a server whose temporary tables are its own. TestMain keeps
// those of other processes' servers away.
func StartServer(t testing.TB, options ...string) *dbtest.Server {
	starting.Lock()
	defer starting.Unlock()
	return dbtest.Start(t, append(options, "--tmpdir="+t.TempDir())...)
}
