package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Clients are the running clients of a lab.
type Clients struct {
	lab  *Lab
	sys  *System
	cmds []*exec.Cmd
}

func (l *Lab) clientDir() string { return filepath.Join(l.Dir, "clients") }

// stopFile ends clients: a signal would not pass nsenter.
const stopFile = "stop"

// StartClients runs the system's clients in the clients' namespace.
func (l *Lab) StartClients(ctx context.Context, executable string, errOut io.Writer) (*Clients, error) {
	sys, err := SystemByName(l.State.System)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.clientDir(), 0o755); err != nil {
		return nil, fmt.Errorf("make the clients' log directory: %w", err)
	}
	c := &Clients{lab: l, sys: sys}
	for _, o := range sys.Clients {
		cmd := l.Command(ctx, "nsenter", "--net=/run/netns/"+ClientsNamespace, "--", executable, "lab", "client",
			"--system", sys.Name, "--name", o.Name, "--kind", o.Kind, "--pause", o.Pause.String(),
			"--keep-alive="+strconv.FormatBool(o.KeepAlive), "--log", filepath.Join(l.clientDir(), o.Name+".jsonl"))
		cmd.Stderr = errOut
		if err := cmd.Start(); err != nil {
			return nil, errors.Join(fmt.Errorf("start client %s: %w", o.Name, err), c.Stop())
		}
		c.cmds = append(c.cmds, cmd)
	}
	return c, nil
}

// Await waits until every client has got at least n good answers from a version.
func (c *Clients) Await(ctx context.Context, version string, n int, limit time.Duration) error {
	return waitFor(ctx, limit, fmt.Sprintf("%d answers of %s for each client", n, version), func() error {
		for _, o := range c.sys.Clients {
			answers, err := ReadAnswers(filepath.Join(c.lab.clientDir(), o.Name+".jsonl"))
			if err != nil {
				return err
			}
			got := 0
			for _, a := range answers {
				if a.Version == version && a.Error == "" {
					got++
				}
			}
			if got < n {
				return fmt.Errorf("%s has %d", o.Name, got)
			}
		}
		return nil
	})
}

// Stop lets each client finish its request and waits for all to end.
func (c *Clients) Stop() error {
	if err := os.WriteFile(filepath.Join(c.lab.clientDir(), stopFile), nil, 0o644); err != nil {
		return fmt.Errorf("stop the clients: %w", err)
	}
	var errs []error
	for _, cmd := range c.cmds {
		errs = append(errs, cmd.Wait())
	}
	c.cmds = nil
	return errors.Join(errs...)
}

// Ledger is how the clients' acknowledged writes stand in the serving version.
type Ledger struct {
	Acknowledged int      `json:"acknowledged"`
	Lost         []string `json:"lost"`    // acknowledged and not there
	Doubled      []string `json:"doubled"` // there more than once
	OutOfOrder   []string `json:"out_of_order"`
}

// OK says whether every acknowledged write is there once and in order.
func (l Ledger) OK() bool { return len(l.Lost)+len(l.Doubled)+len(l.OutOfOrder) == 0 }

// ledgerFile is where CheckLedger leaves what it found, for the report.
const ledgerFile = "ledger.json"

// CheckLedger asks the version that serves now for every client's ledger and
// looks for each write that a client saw acknowledged.
func (c *Clients) CheckLedger(ctx context.Context) (Ledger, error) {
	var out Ledger
	for _, o := range c.sys.Clients {
		if o.Kind != "editor" {
			continue
		}
		text, err := c.fetch(ctx, o.Name)
		if err != nil {
			return out, fmt.Errorf("fetch the ledger of %s: %w", o.Name, err)
		}
		answers, err := ReadAnswers(filepath.Join(c.lab.clientDir(), o.Name+".jsonl"))
		if err != nil {
			return out, err
		}
		c.count(&out, o.Name, text, answers)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return out, err
	}
	if err := os.WriteFile(filepath.Join(c.lab.clientDir(), ledgerFile), raw, 0o644); err != nil {
		return out, fmt.Errorf("keep the ledger: %w", err)
	}
	return out, nil
}

func (c *Clients) count(out *Ledger, client, text string, answers []Answer) {
	last := -1
	for _, a := range answers {
		if a.Error != "" {
			continue
		}
		out.Acknowledged++
		entry := c.sys.Serial(client, a.Serial)
		name := fmt.Sprintf("%s/%d", client, a.Serial)
		at := strings.Index(text, entry)
		switch {
		case at < 0:
			out.Lost = append(out.Lost, name)
		case strings.Count(text, entry) > 1:
			out.Doubled = append(out.Doubled, name)
		case at < last:
			out.OutOfOrder = append(out.OutOfOrder, name)
		}
		last = max(last, at)
	}
}

// fetch reads a ledger through the virtual IP, as a client would.
func (c *Clients) fetch(ctx context.Context, client string) (string, error) {
	req, err := c.sys.LedgerRequest(client)
	if err != nil {
		return "", err
	}
	var body []byte
	cmd := c.lab.Command(ctx, "curl", "--silent", "--show-error", "--fail", "--max-time", "120", req.URL.String())
	if body, err = cmd.Output(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", err
	}
	return string(body), nil
}
