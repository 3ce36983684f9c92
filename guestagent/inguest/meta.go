package inguest

import (
	"io/fs"
	"os/user"
	"strconv"
	"strings"
	"time"

	"imago.dev/imago/guestagent/wire"
)

// setMeta sets what meta asks for. The owner comes first, because changing it
// clears the set-user-id bit; the time comes last.
func (a *applier) setMeta(name string, m *wire.Meta) error {
	if m == nil {
		return nil
	}
	if err := a.setLinkOwner(name, m); err != nil {
		return err
	}
	if m.Mode != nil {
		if err := a.root.Chmod(name, fileMode(*m.Mode)); err != nil {
			return err
		}
	}
	if m.MTimeNS == nil {
		return nil
	}
	t := time.Unix(0, *m.MTimeNS)
	return a.root.Chtimes(name, t, t)
}

// setLinkOwner sets the owner without following a link.
func (a *applier) setLinkOwner(name string, m *wire.Meta) error {
	if m == nil {
		return nil
	}
	uid, gid, err := ownerOf(m)
	if err != nil || (uid < 0 && gid < 0) {
		return err
	}
	return a.root.Lchown(name, uid, gid)
}

// fileMode converts the twelve bits of a Unix mode.
func fileMode(bits uint32) fs.FileMode {
	m := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			m |= flag
		}
	}
	return m
}

// ownerOf returns -1 for what is to stay as it is.
func ownerOf(m *wire.Meta) (uid, gid int, err error) {
	uid, gid = -1, -1
	if m.UID != nil {
		uid = int(*m.UID)
	}
	if m.GID != nil {
		gid = int(*m.GID)
	}
	if m.Owner == "" {
		return uid, gid, nil
	}
	name, group, _ := strings.Cut(m.Owner, ":")
	if name != "" {
		if uid, err = userID(name); err != nil {
			return -1, -1, err
		}
	}
	if group != "" {
		if gid, err = groupID(group); err != nil {
			return -1, -1, err
		}
	}
	return uid, gid, nil
}

func userID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return -1, invalid("look up owner %q: %v", name, err)
	}
	return strconv.Atoi(u.Uid)
}

func groupID(name string) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, invalid("look up group %q: %v", name, err)
	}
	return strconv.Atoi(g.Gid)
}
