package binlog

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"
)

// Config says which server's log is read, and for which tables.
type Config struct {
	// Flavor is "mariadb" or "mysql"; empty asks the server.
	Flavor string
	// Dial makes the connections; nil is a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Address is host:port, or the path of a unix socket.
	Address  string
	User     string
	Password string
	// ServerID is what we call ourselves among the server's replicas; 0 chooses.
	ServerID uint32
	// Database is the one whose tables are transferred.
	Database string
	// Skip are its tables that are not.
	Skip []string
	// MaxTxnBytes bounds the memory of one transaction; 0 is 1 GiB.
	MaxTxnBytes int64
	// Silence is how long the server may say nothing, not even a heartbeat; 0 is
	// 15 s.
	Silence time.Duration
	Log     *slog.Logger
}

func (c *Config) setDefaults() {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.ServerID == 0 {
		// A replica with a number that another has would throw that one out.
		c.ServerID = 1<<31 + rand.Uint32N(1<<31-1)
	}
	if c.MaxTxnBytes == 0 {
		c.MaxTxnBytes = 1 << 30
	}
	if c.Silence == 0 {
		c.Silence = 15 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}
