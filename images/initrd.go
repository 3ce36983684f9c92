package images

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed initrd.sh
var initrdScript []byte

// initrdApplets are the busybox commands that initrd.sh uses.
var initrdApplets = []string{"sh", "mount", "umount", "cat", "insmod", "findfs", "sleep", "poweroff", "switch_root", "echo", "["}

// writeInitrd writes an uncompressed initrd of a static busybox and the modules
// that the root disk and the first services need. It is small enough that an
// emulated machine is through with it in a fraction of a second.
func writeInitrd(ctx context.Context, file, root, version string, modules []string) error {
	busybox, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	if err != nil {
		return fmt.Errorf("initrd: %w (add the package busybox-static)", err)
	}
	files, err := moduleFiles(filepath.Join(root, "lib/modules", version), modules)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(out)
	c := &cpioWriter{w: buf}
	for _, dir := range []string{"dev", "proc", "root", "bin", "modules"} {
		c.add(dir, cpioDir|0o755, nil)
	}
	c.add("init", cpioFile|0o755, initrdScript)
	c.add("bin/busybox", cpioFile|0o755, busybox)
	for _, a := range initrdApplets {
		c.add("bin/"+a, cpioLink|0o777, []byte("busybox"))
	}
	err = addModules(ctx, c, filepath.Join(root, "lib/modules", version), files)
	return errors.Join(err, c.close(), buf.Flush(), out.Close())
}

func addModules(ctx context.Context, c *cpioWriter, dir string, files []string) error {
	var order strings.Builder
	for _, f := range files {
		data, err := readModule(ctx, filepath.Join(dir, f))
		if err != nil {
			return fmt.Errorf("initrd: module %s: %w", f, err)
		}
		name := moduleName(f) + ".ko"
		c.add("modules/"+name, cpioFile|0o644, data)
		order.WriteString(name + "\n")
	}
	c.add("modules/order", cpioFile|0o644, []byte(order.String()))
	return nil
}

// readModule unpacks a module, since busybox's insmod may not.
func readModule(ctx context.Context, file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil || !strings.HasSuffix(file, ".xz") {
		return data, err
	}
	var out bytes.Buffer
	if err := runTool(ctx, bytes.NewReader(data), &out, nil, "xz", "-dc"); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// moduleName is a module's name whatever its file is called.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// moduleFiles lists the files of the wanted modules and of what they need, each
// after what it needs. Modules that are part of the kernel have none.
func moduleFiles(dir string, want []string) ([]string, error) {
	dep, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer dep.Close()
	builtin, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	defer builtin.Close()
	return orderModules(dep, builtin, want)
}

func orderModules(dep, builtin io.Reader, want []string) ([]string, error) {
	needs, byName := map[string][]string{}, map[string]string{}
	for s := bufio.NewScanner(dep); s.Scan(); {
		file, rest, ok := strings.Cut(s.Text(), ":")
		if ok {
			needs[file], byName[moduleName(file)] = strings.Fields(rest), file
		}
	}
	inKernel := map[string]bool{}
	for s := bufio.NewScanner(builtin); s.Scan(); {
		inKernel[moduleName(s.Text())] = true
	}
	var order []string
	seen := map[string]bool{}
	var add func(string)
	add = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		for _, n := range needs[file] {
			add(n)
		}
		order = append(order, file)
	}
	for _, name := range want {
		file, ok := byName[moduleName(name)]
		if !ok && !inKernel[moduleName(name)] {
			return nil, fmt.Errorf("the kernel has no module %q", name)
		}
		if ok {
			add(file)
		}
	}
	return order, nil
}
