package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// aptOptions keep an image small and a build quick. An image that is not yet
// published needs no fsync.
const (
	aptConf = `Acquire::Languages "none";
Acquire::Retries "3";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
`
	dpkgConf = "force-unsafe-io\nforce-confold\nforce-confdef\n" +
		// The initrd is imago's own; generating Debian's takes longer than the rest.
		"path-exclude=/etc/kernel/postinst.d/initramfs-tools\n"
	// usrmerge would convert, with Perl, what is merged from the start.
	aptPreferences = "Package: usrmerge\nPin: release *\nPin-Priority: -1\n"
	noServices     = "#!/bin/sh\nexit 101\n"
)

// setupHook runs after mmdebstrap made the first directories and before it
// downloads. The excludes go to a dpkg file that mmdebstrap does not know, for
// it would start a slow filter for each package.
const setupHook = `set -eu
mkdir -p "$1/etc/apt" "$1/etc/dpkg" "$1/usr/sbin" "$1/var/cache/apt/archives/partial"
cp -R "$IMAGO_SETUP/." "$1/"
for deb in "$IMAGO_DEBS"/*.deb; do
	[ ! -e "$deb" ] || ln "$deb" "$1/var/cache/apt/archives/"
done`

// bootstrap makes a root file system from nothing.
func (j *job) bootstrap(ctx context.Context) error {
	setup := filepath.Join(j.tmp, "setup")
	if err := j.writeSetup(setup); err != nil {
		return err
	}
	args := []string{"--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--",
		"mmdebstrap", "--mode=root", "--format=directory", "--variant=apt", "--verbose",
		"--skip=download/empty,essential/unlink,cleanup/apt",
		"--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
		"--setup-hook=" + setupHook,
		"--include=" + strings.Join(append([]string{"usr-is-merged"}, j.r.Packages...), ","),
		j.r.Suite, j.root, "deb " + j.r.Mirror + " " + j.r.Suite + " main"}
	for _, s := range j.r.Extra {
		args = append(args, "deb "+s.Mirror+" "+s.Suite+" main")
	}
	env := []string{"IMAGO_SETUP=" + setup, "IMAGO_DEBS=" + j.b.debsDir(), "TMPDIR=" + j.tmp,
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(j.r.epoch(), 10)}
	if err := os.MkdirAll(j.b.debsDir(), 0o755); err != nil {
		return err
	}
	if err := runTool(ctx, nil, j.log, env, "unshare", args...); err != nil {
		return err
	}
	return errors.Join(j.dropExcluded(), j.keepDebs())
}

// dropExcluded removes what mmdebstrap unpacked before dpkg could exclude it.
func (j *job) dropExcluded() error {
	for _, pattern := range j.r.Exclude {
		found, err := filepath.Glob(filepath.Join(j.root, pattern))
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := os.RemoveAll(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *job) writeSetup(dir string) error {
	for name, content := range map[string]string{
		"etc/apt/apt.conf.d/90imago":      aptConf,
		"etc/apt/preferences.d/90imago":   aptPreferences,
		"etc/dpkg/dpkg.cfg.d/90imago":     dpkgConf + j.r.pathFilter(),
		"usr/sbin/policy-rc.d":            noServices,
		"var/cache/apt/archives/partial/": "",
	} {
		p := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(dir, "usr/sbin/policy-rc.d"), 0o755)
}

// pathFilter is the dpkg configuration for Exclude and Include.
func (r *Recipe) pathFilter() string {
	var s strings.Builder
	for _, p := range r.Exclude {
		s.WriteString("path-exclude=" + p + "\n")
	}
	for _, p := range r.Include {
		s.WriteString("path-include=" + p + "\n")
	}
	return s.String()
}

const installScript = `set -eu
apt-get -q update
apt-get -q -y install --no-install-recommends "$@"`

// install adds packages to the layer with the image's own apt.
func (j *job) install(ctx context.Context) error {
	policy := filepath.Join(j.root, "usr/sbin/policy-rc.d")
	if err := os.WriteFile(policy, []byte(noServices), 0o755); err != nil {
		return err
	}
	filter := filepath.Join(j.root, "etc/dpkg/dpkg.cfg.d", "91imago-"+strings.ReplaceAll(j.r.Name, ".", "-"))
	if err := os.WriteFile(filter, []byte(j.r.pathFilter()), 0o644); err != nil {
		return err
	}
	if err := j.offerDebs(); err != nil {
		return err
	}
	s := sandbox{root: j.root, network: true, env: j.networkEnv()}
	err := s.run(ctx, nil, j.log, append([]string{"/bin/sh", "-c", installScript, "install"}, j.r.Packages...)...)
	if err != nil {
		return err
	}
	return j.keepDebs()
}

// networkEnv hands the caller's proxies to apt.
func (j *job) networkEnv() []string {
	var env []string
	for _, kv := range toolEnv() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
			env = append(env, kv)
		}
	}
	return append(env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(j.r.epoch(), 10))
}

// debsDir holds every package that any build downloaded. Builds see them as hard
// links, so that parallel builds share no lock; apt checks each against the
// signed index, whatever lies there.
func (b *Builder) debsDir() string { return filepath.Join(b.CacheDir, "debs") }

func (j *job) archives() string { return filepath.Join(j.root, "var/cache/apt/archives") }

func (j *job) offerDebs() error {
	if err := os.MkdirAll(j.archives(), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(j.b.debsDir(), 0o755); err != nil {
		return err
	}
	return linkAll(j.b.debsDir(), j.archives())
}

func (j *job) keepDebs() error { return linkAll(j.archives(), j.b.debsDir()) }

func linkAll(from, to string) error {
	debs, err := filepath.Glob(filepath.Join(from, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		err := os.Link(deb, filepath.Join(to, filepath.Base(deb)))
		if err != nil && !os.IsExist(err) {
			return fmt.Errorf("share package: %w", err)
		}
	}
	return nil
}
