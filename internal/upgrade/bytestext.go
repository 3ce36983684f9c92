package upgrade

import "fmt"

// BytesText writes a number of bytes for people, with one digit after the point.
func BytesText(n uint64) string {
	f, units, u := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}, 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
