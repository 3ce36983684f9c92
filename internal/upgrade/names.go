package upgrade

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"imago.dev/imago/internal/journal"
)

// names derives the name of every outside resource from the run, so that any
// process finds them again, and the same name is never made twice.
type names struct{ plan, run, stateDir string }

// tokenOf makes six letters and digits from a run: interface names leave no
// room for more. The moment it began keeps runs of different journals apart.
func tokenOf(r journal.Run) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d/%d", r.Name, r.ID, r.Began.UnixNano()))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))[:6]
}

func (n names) base() string    { return "imago-" + n.plan + "-" + n.run }
func (n names) network() string { return n.base() }
func (n names) netns() string   { return n.base() }
func (n names) bridge() string  { return "imgb" + n.run }

func (n names) domain(vm string) string { return n.base() + "-" + vm }

// uuid is stable for a resource of a run.
func (n names) uuid(what string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://imago.dev/run/"+n.base()+"/"+what)).String()
}

// dir holds everything of the run that is a file.
func (n names) dir() string { return filepath.Join(n.stateDir, "runs", n.run) }

func (n names) scratchDir() string { return filepath.Join(n.dir(), "scratch") }

// sockets is short, because a socket's path has at most 107 bytes.
func (n names) sockets() string { return filepath.Join("/run/imago", n.run) }

func (n names) overlay(vm, target string) string {
	return filepath.Join(n.dir(), vm+"-"+target+".qcow2")
}

// nvram holds a clone's own copy of its source's UEFI variables.
func (n names) nvram(vm string) string { return filepath.Join(n.dir(), vm+".nvram.fd") }

func (n names) console(vm string) string { return filepath.Join(n.dir(), vm+".console.log") }

func (n names) manifest(check string) string {
	return filepath.Join(n.reportDir(), "manifest-"+strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(check)))
}

// reportDir outlives the run: the report and what a rollback compares with.
func (n names) reportDir() string { return filepath.Join(n.stateDir, "reports", n.run) }
