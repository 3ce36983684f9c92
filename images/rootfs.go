package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"maps"
)

// defaultEpoch is 2026-01-01: no file in an image is newer.
const defaultEpoch = 1767225600

func (r *Recipe) epoch() int64 {
	if r.Epoch == 0 {
		return defaultEpoch
	}
	return r.Epoch
}

// untar keeps owners and file capabilities.
func (j *job) untar(ctx context.Context, archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return runTool(ctx, nil, j.log, nil, "tar", "-C", dir, "--numeric-owner", "-p",
		"--xattrs", "--xattrs-include=security.capability", "--zstd", "-xf", archive)
}

// tar packs members of dir so that equal content gives equal bytes.
func (j *job) tar(ctx context.Context, archive, dir string, members ...string) error {
	args := []string{"-C", dir, "--numeric-owner", "--sort=name", "--format=posix",
		"--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
		"--xattrs", "--xattrs-include=security.capability",
		"--use-compress-program=zstd -1 -q", "--clamp-mtime", "--mtime=@" + strconv.FormatInt(j.r.epoch(), 10), "-cf", archive, "--"}
	return runTool(ctx, nil, j.log, nil, "tar", append(args, members...)...)
}

// cached is a file of another image; the plan had it verified or built.
func (j *job) cached(recipe, file string) string { return filepath.Join(j.b.dir(recipe), file) }

func (j *job) copyLayer(ctx context.Context) error {
	return j.untar(ctx, j.cached(j.r.Layer, rootfsFile), j.root)
}

func (j *job) copyRoots(ctx context.Context) error {
	for name, recipe := range j.r.Roots {
		if err := j.untar(ctx, j.cached(recipe, rootfsFile), j.rootOf(name)); err != nil {
			return fmt.Errorf("root %s: %w", name, err)
		}
	}
	return nil
}

// rootOf is the directory of one of Roots, or of the image itself.
func (j *job) rootOf(name string) string {
	if name == "" {
		return j.root
	}
	return filepath.Join(j.tmp, "roots", name)
}

func (j *job) unpack(ctx context.Context) error {
	for _, u := range j.r.Unpack {
		if err := j.untar(ctx, j.cached(u.From, artifactFile(u.Artifact)), j.root); err != nil {
			return fmt.Errorf("artifact %s of %s: %w", u.Artifact, u.From, err)
		}
	}
	return nil
}

func (j *job) packArtifacts(ctx context.Context) error {
	for name, a := range j.r.Artifacts {
		root := j.rootOf(a.Root)
		if err := j.tar(ctx, filepath.Join(j.out, artifactFile(name)), root, "."+a.Path); err != nil {
			return fmt.Errorf("artifact %s: %w", name, err)
		}
		if !a.Drop {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, a.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) packRoot(ctx context.Context) error {
	return j.tar(ctx, filepath.Join(j.out, rootfsFile), j.root, ".")
}

// writeFiles goes through os.Root: a link in the image cannot lead out of it.
func (j *job) writeFiles(context.Context) error {
	root, err := os.OpenRoot(j.root)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range j.r.Files {
		if err := j.writeFile(root, f); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

func (j *job) writeFile(root *os.Root, f File) error {
	name := strings.TrimPrefix(f.Path, "/")
	content, err := f.render(j.r.Vars)
	if err != nil {
		return err
	}
	mode, err := f.mode()
	if err != nil {
		return err
	}
	uid, gid, err := lookupOwner(root, f.Owner)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.RemoveAll(name); err != nil { // a link would be written through
		return err
	}
	if err := root.WriteFile(name, content, 0o600); err != nil {
		return err
	}
	if err := root.Chown(name, uid, gid); err != nil {
		return err
	}
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	when := time.Unix(j.r.epoch(), 0)
	return root.Chtimes(name, when, when)
}

func (f File) render(vars map[string]string) ([]byte, error) {
	if !f.Template {
		return []byte(f.Content), nil
	}
	t, err := template.New(f.Path).Option("missingkey=error").Parse(f.Content)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	if err := t.Execute(&out, vars); err != nil {
		return nil, err
	}
	return []byte(out.String()), nil
}

// lookupOwner reads "user" or "user:group" from the image's own account files.
func lookupOwner(root *os.Root, owner string) (uid, gid int, err error) {
	if owner == "" {
		return 0, 0, nil
	}
	user, group, _ := strings.Cut(owner, ":")
	if group == "" {
		group = user
	}
	if uid, err = lookupID(root, "etc/passwd", user); err != nil {
		return 0, 0, err
	}
	gid, err = lookupID(root, "etc/group", group)
	return uid, gid, err
}

func lookupID(root *os.Root, file, name string) (int, error) {
	data, err := root.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[0] == name {
			return strconv.Atoi(strings.TrimSpace(f[2]))
		}
	}
	return 0, fmt.Errorf("%q is not in /%s of the image", name, file)
}

// runScripts runs the recipe's scripts without network. Files that packages made
// get their final times first, since caches made here remember them.
func (j *job) runScripts(ctx context.Context) error {
	if err := j.clampTimes(); err != nil {
		return err
	}
	s := sandbox{root: j.root, parts: map[string]string{}}
	for _, k := range slices.Sorted(maps.Keys(j.r.Vars)) {
		s.env = append(s.env, k+"="+j.r.Vars[k])
	}
	s.env = append(s.env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(j.r.epoch(), 10))
	for name := range j.r.Roots {
		s.parts[name] = j.rootOf(name)
	}
	for _, script := range j.r.Scripts {
		j.report("script " + script.Name)
		fmt.Fprintf(j.log, "-- script %s\n", script.Name)
		if err := s.run(ctx, strings.NewReader(script.Run), j.log, "/bin/bash", "-euo", "pipefail", "-s"); err != nil {
			return fmt.Errorf("%s: %w", script.Name, err)
		}
	}
	return nil
}
