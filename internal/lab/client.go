package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ClientOptions describe one client of the sample system.
type ClientOptions struct {
	Name      string
	Kind      string // reader or editor
	System    string
	Log       string        // file that each answer is appended to, one JSON line each
	Pause     time.Duration // between two requests
	KeepAlive bool
}

// Answer is one line of a client's log.
type Answer struct {
	Time    time.Time `json:"t"`
	Client  string    `json:"client"`
	Method  string    `json:"method"`
	Path    string    `json:"path"`
	Status  int       `json:"status"`
	Millis  float64   `json:"ms"`
	Version string    `json:"version"`
	Serial  int       `json:"serial,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// ReadAnswers reads a client's log. A last line that is not whole yet is left out.
func ReadAnswers(path string) ([]Answer, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a client's log: %w", err)
	}
	var out []Answer
	for _, line := range bytes.SplitAfter(raw, []byte{'\n'}) {
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			continue
		}
		var a Answer
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("read a client's log %s: %w", path, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// RunClient sends requests one after the other until ctx ends or a file named
// "stop" stands beside the log, and logs each answer. A request that is under
// way then is let finish, so that its outcome is known and logged.
func RunClient(ctx context.Context, o ClientOptions) error {
	sys, err := SystemByName(o.System)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the client's log: %w", err)
	}
	defer log.Close()
	c := &client{o: o, sys: sys, rand: rand.New(rand.NewPCG(1, uint64(len(o.Name)))),
		http: &http.Client{
			Timeout:   5 * time.Minute,
			Transport: &http.Transport{DisableKeepAlives: !o.KeepAlive, MaxIdleConnsPerHost: 1},
		}}
	enc := json.NewEncoder(log)
	for serial := 1; ; serial++ {
		a, err := c.request(serial)
		if err != nil {
			a.Error = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("write the client's log: %w", err)
		}
		if stopped(o.Log) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.Pause):
		}
		if stopped(o.Log) {
			return nil
		}
	}
}

func stopped(log string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(log), stopFile))
	return err == nil
}

type client struct {
	o    ClientOptions
	sys  *System
	rand *rand.Rand
	http *http.Client
}

// request sends the next request of the client's kind.
func (c *client) request(serial int) (Answer, error) {
	var req *http.Request
	var err error
	a := Answer{Time: time.Now(), Client: c.o.Name}
	if c.o.Kind == "editor" {
		a.Serial = serial
		req, err = c.sys.EditRequest(c.o.Name, serial)
	} else {
		req, err = c.sys.ReadRequest(c.rand)
	}
	if err != nil {
		return a, err
	}
	a.Method, a.Path = req.Method, req.URL.RequestURI()
	resp, err := c.http.Do(req)
	a.Millis = float64(time.Since(a.Time).Microseconds()) / 1000
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	a.Millis = float64(time.Since(a.Time).Microseconds()) / 1000
	a.Status = resp.StatusCode
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	a.Version = c.sys.VersionOf(resp.Header, body)
	if resp.StatusCode/100 != 2 {
		return a, fmt.Errorf("status %d: %.200s", resp.StatusCode, body)
	}
	return a, c.sys.CheckAnswer(c.o.Kind, body)
}

var generator = regexp.MustCompile(`<meta name="generator" content="(MediaWiki \d+\.\d+)`)

// wikiVersion names the version that made an answer: pages say it themselves,
// other answers carry the version of PHP, which is different on both sides.
func wikiVersion(h http.Header, body []byte) string {
	if m := generator.FindSubmatch(body); m != nil {
		return string(m[1])
	}
	switch php := h.Get("X-Powered-By"); {
	case strings.HasPrefix(php, "PHP/8.2"):
		return "MediaWiki 1.39"
	case strings.HasPrefix(php, "PHP/8.4"):
		return "MediaWiki 1.43"
	}
	return ""
}

// wikiEdit appends a serial number to the client's own ledger page.
func wikiEdit(base, client string, serial int) (*http.Request, error) {
	form := url.Values{
		"action": {"edit"}, "format": {"json"}, "title": {LedgerTitle(client)},
		"appendtext": {fmt.Sprintf("\n* serial %d.", serial)},
		"summary":    {fmt.Sprintf("serial %d", serial)},
		"token":      {`+\`},
	}
	req, err := http.NewRequest(http.MethodPost, base+"/mediawiki/api.php", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

// LedgerTitle is the wiki page that a client's edits go to.
func LedgerTitle(client string) string { return "Ledger " + client }

// wikiCheck looks at what a good answer must hold.
func wikiCheck(kind string, body []byte) error {
	if kind != "editor" {
		if !strings.Contains(string(body), "</html>") {
			return errors.New("the page is not whole")
		}
		return nil
	}
	var r struct {
		Edit struct {
			Result string `json:"result"`
		} `json:"edit"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("the answer to an edit is not JSON: %.200s", body)
	}
	if r.Edit.Result != "Success" {
		return fmt.Errorf("the edit was refused: %.300s", body)
	}
	return nil
}
