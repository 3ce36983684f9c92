package netswitch

import (
	"testing"
	"time"
)

func TestIdleFromTimeout(t *testing.T) {
	kernel := timeouts{established: 432000 * time.Second, unacknowledged: 300 * time.Second}
	for _, c := range []struct {
		limits     timeouts
		left, want time.Duration
	}{
		{kernel, 432000 * time.Second, 0},
		{kernel, 431999 * time.Second, 0},
		{kernel, 431990 * time.Second, 9 * time.Second},
		{kernel, 299 * time.Second, 0}, // a packet awaits its acknowledgement
		{kernel, 300 * time.Second, 0},
		{kernel, 500000 * time.Second, 0}, // set lower in the meantime
		{timeouts{established: 180 * time.Second, unacknowledged: 300 * time.Second}, 100 * time.Second, 0},
		{timeouts{}, 100 * time.Second, 0},
	} {
		if got := c.limits.idle(c.left); got != c.want {
			t.Errorf("%v of %v: %v, want %v", c.left, c.limits.established, got, c.want)
		}
	}
}
