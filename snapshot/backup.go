package snapshot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

const (
	// pollEvery is how often libvirt is asked while waiting for a change.
	pollEvery = 100 * time.Millisecond
	// endPatience bounds how long QEMU may take to take a backup job apart.
	endPatience = 30 * time.Second
)

// backupXML asks for a frozen view of some disks on one unix socket.
func backupXML(vm *vmView) (string, error) {
	disks := make([]libvirtxml.DomainBackupPullDisk, 0, len(vm.disks))
	for _, d := range vm.disks {
		disks = append(disks, libvirtxml.DomainBackupPullDisk{
			Name: d.Target, Backup: "yes", ExportName: d.Target,
			Driver:  &libvirtxml.DomainBackupDiskDriver{Type: "qcow2"},
			Scratch: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.scratch}},
		})
	}
	doc := libvirtxml.DomainBackup{Pull: &libvirtxml.DomainBackupPull{
		Server: &libvirtxml.DomainBackupPullServer{UNIX: &libvirtxml.DomainBackupPullServerUNIX{Socket: vm.socket}},
		Disks:  &libvirtxml.DomainBackupPullDisks{Disks: disks},
	}}
	text, err := doc.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the backup XML of %q: %w", vm.name, err)
	}
	return text, nil
}

// backupBegin starts the job; from its return on, the view is frozen.
func backupBegin(vm *vmView) error {
	text, err := backupXML(vm)
	if err != nil {
		return err
	}
	// The scratch files exist already, with their space.
	if err := vm.dom.BackupBegin(text, "", libvirt.DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL); err != nil {
		return fmt.Errorf("begin the backup job of %q: %w", vm.name, err)
	}
	return nil
}

// runningJob reads the backup job of a domain: none, ours (all its scratch
// files lie under dir), or somebody else's.
func runningJob(dom *libvirt.Domain, dir string) (running, ours bool, err error) {
	text, err := dom.BackupGetXMLDesc(0)
	if isCode(err, libvirt.ERR_NO_DOMAIN_BACKUP, libvirt.ERR_NO_DOMAIN) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("ask for the backup job: %w", err)
	}
	var doc libvirtxml.DomainBackup
	if err := doc.Unmarshal(text); err != nil {
		return true, false, fmt.Errorf("parse the backup job's XML: %w", err)
	}
	return true, scratchUnder(&doc, dir), nil
}

// scratchUnder tells whether the job has scratch files and all of them lie under dir.
func scratchUnder(doc *libvirtxml.DomainBackup, dir string) bool {
	if doc.Pull == nil || doc.Pull.Disks == nil || !filepath.IsAbs(dir) {
		return false
	}
	prefix := strings.TrimSuffix(filepath.Clean(dir), "/") + "/"
	found := false
	for _, d := range doc.Pull.Disks.Disks {
		if d.Scratch == nil || d.Scratch.File == nil {
			if d.Backup == "no" {
				continue
			}
			return false
		}
		if !strings.HasPrefix(filepath.Clean(d.Scratch.File.File), prefix) {
			return false
		}
		found = true
	}
	return found
}

// checkNoJob refuses a domain that is not running or is busy with a job.
func checkNoJob(vm *vmView, dir string) error {
	state, _, err := vm.dom.GetState()
	if err != nil {
		return fmt.Errorf("ask %q for its state: %w", vm.name, err)
	}
	if state != libvirt.DOMAIN_RUNNING {
		return fmt.Errorf("take a view of %q: %w", vm.name, ErrNotRunning)
	}
	running, ours, err := runningJob(vm.dom, dir)
	switch {
	case err != nil:
		return fmt.Errorf("take a view of %q: %w", vm.name, err)
	case running && ours:
		return fmt.Errorf("take a view of %q: %w", vm.name, ErrLeftover)
	case running:
		return fmt.Errorf("take a view of %q: %w: a backup", vm.name, ErrForeignJob)
	}
	job, err := vm.dom.GetJobInfo()
	if err == nil && job.Type != libvirt.DOMAIN_JOB_NONE {
		return fmt.Errorf("take a view of %q: %w", vm.name, ErrForeignJob)
	}
	return nil
}

// EndJob ends the backup job on a domain if it is ours, that is, if all its
// scratch files lie under dir, and waits until it is gone. Without a job it
// does nothing; somebody else's job gives [ErrForeignJob] and is left alone.
// It is idempotent, and what abort calls after a crash.
func EndJob(ctx context.Context, dom *libvirt.Domain, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, endPatience, errors.New("the backup job does not end"))
	defer cancel()
	for asked := false; ; {
		running, ours, err := runningJob(dom, dir)
		if err != nil || !running {
			return err
		}
		if !ours {
			return ErrForeignJob
		}
		if !asked {
			// "Invalid" means that it ended by itself in between, or QEMU is
			// still starting or ending it: the next round looks again.
			err := dom.AbortJob()
			if err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_DOMAIN) {
				return fmt.Errorf("abort the backup job: %w", err)
			}
			asked = err == nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait for the end of the backup job: %w", err)
		}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
