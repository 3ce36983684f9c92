package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// writeIntoDisk writes files into a raw ext4 disk with debugfs, then reads them
// back: debugfs reports a command that went wrong only in its talk.
func writeIntoDisk(ctx context.Context, disk, tmp string, files []GuestFile) error {
	in, out := filepath.Join(tmp, "in"), filepath.Join(tmp, "out")
	for _, dir := range []string{in, out} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	var write, read strings.Builder
	made := map[string]bool{"/": true}
	for i, f := range files {
		name := fmt.Sprint(i)
		if err := os.WriteFile(filepath.Join(in, name), f.Content, 0o600); err != nil {
			return err
		}
		for _, dir := range parents(f.Path, made) {
			fmt.Fprintf(&write, "mkdir \"%s\"\n", dir)
		}
		fmt.Fprintf(&write, "rm \"%s\"\nwrite \"%s\" \"%s\"\n", f.Path, filepath.Join(in, name), f.Path)
		fmt.Fprintf(&write, "sif \"%s\" mode 0%o\nsif \"%s\" uid %d\nsif \"%s\" gid %d\n",
			f.Path, 0o100000|f.perm(), f.Path, f.UID, f.Path, f.GID)
		fmt.Fprintf(&read, "dump \"%s\" \"%s\"\nstat \"%s\"\n", f.Path, filepath.Join(out, name), f.Path)
	}
	if made["/root/.ssh"] {
		write.WriteString("sif /root/.ssh mode 040700\n")
	}
	talk, err := debugfs(ctx, disk, tmp, write.String(), "-w")
	if err != nil {
		return fmt.Errorf("write into disk: %w: %s", err, talk)
	}
	stats, err := debugfs(ctx, disk, tmp, read.String())
	if err != nil {
		return fmt.Errorf("read back from disk: %w: %s", err, stats)
	}
	return compareWritten(out, files, stats, talk)
}

func (f GuestFile) perm() uint32 {
	if f.Mode == 0 {
		return 0o644
	}
	return uint32(f.Mode.Perm())
}

// parents lists the directories above p that were not listed before, the upper first.
func parents(p string, made map[string]bool) []string {
	dir := path.Dir(p)
	if made[dir] {
		return nil
	}
	list := parents(dir, made)
	made[dir] = true
	return append(list, dir)
}

func debugfs(ctx context.Context, disk, tmp, commands string, flags ...string) (string, error) {
	script := filepath.Join(tmp, "commands")
	if err := os.WriteFile(script, []byte(commands), 0o600); err != nil {
		return "", err
	}
	var talk bytes.Buffer
	err := runTool(ctx, nil, &talk, []string{"DEBUGFS_PAGER=cat"}, "debugfs", append(flags, "-f", script, disk)...)
	return talk.String(), err
}

var statShape = regexp.MustCompile(`(?s)Mode:\s+(\d+).*?User:\s+(\d+)\s+Group:\s+(\d+)`)

func compareWritten(out string, files []GuestFile, stats, talk string) error {
	found := statShape.FindAllStringSubmatch(stats, -1)
	if len(found) != len(files) {
		return fmt.Errorf("write into disk: %d of %d files are there: %s", len(found), len(files), talk)
	}
	for i, f := range files {
		got, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		if err != nil || !bytes.Equal(got, f.Content) {
			return fmt.Errorf("write into disk: %s is not as written (%v): %s", f.Path, err, talk)
		}
		want := []string{fmt.Sprintf("%04o", f.perm()), fmt.Sprint(f.UID), fmt.Sprint(f.GID)}
		if got := found[i][1:]; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			return fmt.Errorf("write into disk: %s has mode, user, group %v instead of %v", f.Path, got, want)
		}
	}
	return nil
}
