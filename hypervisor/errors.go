package hypervisor

import (
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
)

var (
	// ErrNoDomain says that libvirt knows no domain of that name.
	ErrNoDomain = errors.New("no such domain")
	// ErrNotOurs says that a domain or network does not carry imago's mark, so imago must not touch it.
	ErrNotOurs = errors.New("not made by imago")
	// ErrNotRunning says that the call needs a running domain.
	ErrNotRunning = errors.New("domain is not running")
	// ErrNoAgent says that no QEMU guest agent answers in the guest.
	ErrNoAgent = errors.New("no guest agent answers")
	// ErrHostileImage says that a disk image's header asks for something imago never does for an image.
	ErrHostileImage = errors.New("refused disk image")
)

// Reason is one thing that stands against cloning a domain.
type Reason struct {
	Device   string // the device as a person finds it in the XML: "disk vda", "interface 52:54:00:…"
	Why      string // why a copy of it cannot work or would touch production
	WhatToDo string // what the operator can do about it
}

// NotCloneableError lists all reasons why a domain cannot be cloned.
type NotCloneableError struct {
	Domain  string
	Reasons []Reason
}

func (e *NotCloneableError) Error() string {
	return fmt.Sprintf("domain %q cannot be cloned: %s", e.Domain, reasonsText(e.Reasons))
}

func reasonsText(reasons []Reason) string {
	var list []string
	for _, r := range reasons {
		text := r.Device + ": " + r.Why
		if r.WhatToDo != "" {
			text += " (" + r.WhatToDo + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}

// isCode tells whether err is a libvirt error with one of the codes.
func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var lv libvirt.Error
	if !errors.As(err, &lv) {
		return false
	}
	for _, c := range codes {
		if lv.Code == c {
			return true
		}
	}
	return false
}
