package images

import "runtime"

// onLockedThread runs f on a thread that lives as long as f does.
func onLockedThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}
