package guestagent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// HostKeyError means that the guest did not show a key it was pinned to.
// Nothing was sent to it, not even the user's name.
type HostKeyError struct {
	Guest, Addr string
	// Want holds the fingerprints that would have been accepted, Got the one
	// shown; Got is empty when the guest has no key of a pinned kind.
	Want []string
	Got  string
}

func (e *HostKeyError) Error() string {
	switch {
	case len(e.Want) == 0:
		return fmt.Sprintf("host key of guest %q at %s is unknown: it showed %s", e.Guest, e.Addr, e.Got)
	case e.Got == "":
		return fmt.Sprintf("guest %q at %s has no host key of the kind that is pinned (%s)", e.Guest, e.Addr, strings.Join(e.Want, ", "))
	}
	return fmt.Sprintf("host key of guest %q at %s is %s, but %s is pinned", e.Guest, e.Addr, e.Got, strings.Join(e.Want, " or "))
}

// Hint says what a person can do about it.
func (e *HostKeyError) Hint() string {
	check := "compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the guest's own console"
	if len(e.Want) == 0 {
		return "nothing is trusted on first sight: " + check + ", then pin the key in the plan"
	}
	return "the guest was reinstalled, the address belongs to another machine, or somebody is in between: " + check +
		"; pin the new key only if they are equal"
}

// errKeyRefused ends a handshake after HostKeyError has been filled in.
var errKeyRefused = errors.New("host key refused")

// pin checks the guest's key during the handshake.
type pin struct {
	target  Target
	refused *HostKeyError
}

func (p *pin) want() []string {
	var prints []string
	for _, k := range p.target.HostKeys {
		prints = append(prints, ssh.FingerprintSHA256(k))
	}
	return prints
}

func (p *pin) check(_ string, _ net.Addr, got ssh.PublicKey) error {
	for _, k := range p.target.HostKeys {
		if bytes.Equal(k.Marshal(), got.Marshal()) {
			return nil
		}
	}
	p.refuse(ssh.FingerprintSHA256(got))
	return errKeyRefused
}

func (p *pin) refuse(got string) {
	p.refused = &HostKeyError{Guest: p.target.Name, Addr: p.target.Addr, Want: p.want(), Got: got}
}

// algorithms lists what the pinned keys can sign with. SHA-1 is not offered.
// Without pinned keys any sound one is, so that the refusal can name the key.
func (p *pin) algorithms() ([]string, error) {
	if len(p.target.HostKeys) == 0 {
		return []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		}, nil
	}
	var algos []string
	for _, k := range p.target.HostKeys {
		switch k.Type() {
		case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
			algos = append(algos, k.Type())
		case ssh.KeyAlgoRSA:
			algos = append(algos, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			return nil, fmt.Errorf("pin the host key of guest %q: keys of type %q are not supported", p.target.Name, k.Type())
		}
	}
	slices.Sort(algos)
	return slices.Compact(algos), nil
}

// explain turns the handshake's error into a typed one where it can.
func (p *pin) explain(err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	if p.refused == nil && errors.As(err, &negotiation) && strings.Contains(err.Error(), "host key") {
		p.refuse("")
	}
	if p.refused != nil {
		return p.refused
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return fmt.Errorf("%w for user %q: %w", ErrLogin, p.target.User, err)
	}
	return err
}
