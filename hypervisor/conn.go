package hypervisor

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"
)

// Keepalive probes find a dead libvirtd or a cut network; without them a call
// over ssh would wait for ever.
const (
	keepaliveSeconds = 10
	keepaliveCount   = 6
)

// hwuuidVersion is the first libvirt that knows <hwuuid> (11.7.0).
const hwuuidVersion = 11_007_000

// Conn is an open connection to one libvirt daemon. It is safe for concurrent use.
type Conn struct {
	raw       *libvirt.Connect
	uri       string
	log       *slog.Logger
	version   uint32
	closeOnce sync.Once
	closeErr  error
}

// Open connects to libvirt under any URI it knows (qemu:///system,
// qemu+unix:///system?socket=…, qemu+ssh://…). The caller must Close it.
func Open(ctx context.Context, uri string, log *slog.Logger) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := loop.acquire(); err != nil {
		return nil, err
	}
	raw, err := connect(ctx, uri)
	if err != nil {
		loop.release()
		return nil, fmt.Errorf("connect to libvirt at %q: %w", uri, err)
	}
	c := &Conn{raw: raw, uri: uri, log: log}
	if err := c.setUp(); err != nil {
		return nil, errJoinClose(err, c)
	}
	return c, nil
}

// connect dials in a goroutine of its own, because libvirt's open cannot be
// cancelled. When ctx ends first, that goroutine closes what it still gets.
func connect(ctx context.Context, uri string) (*libvirt.Connect, error) {
	type answer struct {
		conn *libvirt.Connect
		err  error
	}
	got := make(chan answer)
	go func() {
		conn, err := libvirt.NewConnect(uri)
		select {
		case got <- answer{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_, _ = conn.Close()
			}
		}
	}()
	select {
	case a := <-got:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Conn) setUp() error {
	// Not every driver has keepalive (an embedded one has nobody to ask).
	if err := c.raw.SetKeepAlive(keepaliveSeconds, keepaliveCount); err != nil {
		c.log.Debug("no libvirt keepalive", "uri", c.uri, "error", err)
	}
	v, err := c.raw.GetLibVersion()
	if err != nil {
		return fmt.Errorf("ask libvirt at %q for its version: %w", c.uri, err)
	}
	c.version = v
	return nil
}

func errJoinClose(err error, c *Conn) error {
	if cerr := c.Close(); cerr != nil {
		return fmt.Errorf("%w (and %v)", err, cerr)
	}
	return err
}

// Close ends the connection. Domains and networks are not affected.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		if _, err := c.raw.Close(); err != nil {
			c.closeErr = fmt.Errorf("close libvirt at %q: %w", c.uri, err)
		}
		loop.release()
	})
	return c.closeErr
}

// Raw gives the libvirt connection for what this package does not wrap.
func (c *Conn) Raw() *libvirt.Connect { return c.raw }

// URI is the address the connection was opened with.
func (c *Conn) URI() string { return c.uri }

// Version is the daemon's libvirt version, as "9.0.0".
func (c *Conn) Version() string {
	v := c.version
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
}

// KnowsHWUUID tells whether this libvirt understands <hwuuid>, so that a clone
// can keep its SMBIOS UUID without extra QEMU arguments.
func (c *Conn) KnowsHWUUID() bool { return c.version >= hwuuidVersion }

// Ping asks the daemon for a trivial answer.
func (c *Conn) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if _, err := c.raw.GetLibVersion(); err != nil {
		return fmt.Errorf("ping libvirt at %q: %w", c.uri, err)
	}
	return nil
}

// LookupDomain finds a domain by name or, if none has that name, by UUID;
// [ErrNoDomain] if there is none.
func (c *Conn) LookupDomain(name string) (*Domain, error) {
	raw, err := c.raw.LookupDomainByName(name)
	if isCode(err, libvirt.ERR_NO_DOMAIN) && uuid.Validate(name) == nil {
		raw, err = c.raw.LookupDomainByUUIDString(name)
	}
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil, fmt.Errorf("look up domain %q at %q: %w", name, c.uri, ErrNoDomain)
	}
	if err != nil {
		return nil, fmt.Errorf("look up domain %q: %w", name, err)
	}
	return c.wrap(raw)
}
