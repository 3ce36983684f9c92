package images

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// DefaultMirror is where packages come from when a recipe names no mirror.
const DefaultMirror = "http://deb.debian.org/debian"

// Recipe declares one image: everything that decides its content.
type Recipe struct {
	Name     string            `yaml:"name"`
	Suite    string            `yaml:"suite,omitempty"`    // Debian suite; inherited from Layer
	Mirror   string            `yaml:"mirror,omitempty"`   // default DefaultMirror; a snapshot mirror pins the versions
	Extra    []Source          `yaml:"extra,omitempty"`    // more suites, such as security updates
	Layer    string            `yaml:"layer,omitempty"`    // recipe whose finished root file system is the start
	Packages []string          `yaml:"packages,omitempty"` // installed without recommended packages
	Exclude  []string          `yaml:"exclude,omitempty"`  // dpkg path-exclude patterns for the packages of this recipe
	Include  []string          `yaml:"include,omitempty"`  // exceptions from Exclude
	Vars     map[string]string `yaml:"vars,omitempty"`     // for templates and, as environment, for scripts; inherited
	Unpack   []Unpack          `yaml:"unpack,omitempty"`   // artifacts of other recipes
	Files    []File            `yaml:"files,omitempty"`
	Roots    map[string]string `yaml:"roots,omitempty"` // name -> recipe: scratch copies under /mnt/imago/<name> while scripts run
	Scripts  []Script          `yaml:"scripts,omitempty"`

	Artifacts map[string]Artifact `yaml:"artifacts,omitempty"` // parts handed to other recipes
	Disk      *Disk               `yaml:"disk,omitempty"`      // absent: a layer only
	Kernel    Kernel              `yaml:"kernel,omitempty"`    // inherited
	Epoch     int64               `yaml:"epoch,omitempty"`     // Unix seconds; no file in the image is newer; inherited
	Seconds   int                 `yaml:"seconds,omitempty"`   // how long a build took where it was written; only for estimates
}

// Source is one more place that packages come from.
type Source struct {
	Mirror string `yaml:"mirror"`
	Suite  string `yaml:"suite"`
}

// File is one file that the recipe puts into the image.
type File struct {
	Path     string `yaml:"path"`
	Mode     string `yaml:"mode,omitempty"`     // octal, default 0644
	Owner    string `yaml:"owner,omitempty"`    // "user" or "user:group" of the image, default root
	Content  string `yaml:"content,omitempty"`  // either this or Source
	Source   string `yaml:"source,omitempty"`   // a file beside the recipe
	Template bool   `yaml:"template,omitempty"` // text/template over Vars
}

// Script runs in the image's root file system, as root, without network.
type Script struct {
	Name   string `yaml:"name"`
	Run    string `yaml:"run,omitempty"` // either this or Source
	Source string `yaml:"source,omitempty"`
}

// Artifact is a directory or file that a build hands to other recipes.
type Artifact struct {
	Root string `yaml:"root,omitempty"` // one of Roots; default the image itself
	Path string `yaml:"path"`
	Drop bool   `yaml:"drop,omitempty"` // not kept in the image
}

// Unpack puts an artifact of another recipe at the path it came from.
type Unpack struct {
	From     string `yaml:"from"`
	Artifact string `yaml:"artifact"`
}

// Disk says what disk is made from the root file system.
type Disk struct {
	Size string `yaml:"size"` // virtual size, such as 3G
}

// Kernel names the modules that the initrd loads and the kernel's parameters.
type Kernel struct {
	Modules []string `yaml:"modules,omitempty"`
	Cmdline string   `yaml:"cmdline,omitempty"`
}

// parseRecipe reads one recipe and refuses unknown keys, with line and column.
func parseRecipe(data []byte) (*Recipe, error) {
	var r Recipe
	if err := decode(data, &r); err != nil {
		return nil, err
	}
	if err := r.validate(); err != nil {
		return nil, err
	}
	return &r, nil
}

// decode guards against input that the YAML library panics over, such as a tag
// that has no value.
func decode(data []byte, r *Recipe) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not YAML that can be read: %v", p)
		}
	}()
	if err := yaml.UnmarshalWithOptions(data, r, yaml.Strict()); err != nil {
		return errors.New(yaml.FormatError(err, false, true))
	}
	return nil
}

// inline replaces every Source by the content it names, so that the recipe is whole.
func (r *Recipe) inline(fsys fs.FS) error {
	for i, f := range r.Files {
		if f.Source == "" {
			continue
		}
		data, err := fs.ReadFile(fsys, f.Source)
		if err != nil {
			return fmt.Errorf("files[%d].source: %w", i, err)
		}
		r.Files[i].Content, r.Files[i].Source = string(data), ""
	}
	for i, s := range r.Scripts {
		if s.Source == "" {
			continue
		}
		data, err := fs.ReadFile(fsys, s.Source)
		if err != nil {
			return fmt.Errorf("scripts[%d].source: %w", i, err)
		}
		r.Scripts[i].Run, r.Scripts[i].Source = string(data), ""
	}
	return nil
}

// needs lists the recipes that must be built before this one.
func (r *Recipe) needs() []string {
	var names []string
	if r.Layer != "" {
		names = append(names, r.Layer)
	}
	for _, name := range r.Roots {
		names = append(names, name)
	}
	for _, u := range r.Unpack {
		names = append(names, u.From)
	}
	return names
}

var (
	nameShape    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)
	packageShape = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?$`)
	varShape     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	sizeShape    = regexp.MustCompile(`^([1-9][0-9]*)([MG])$`)
)

// validate names every fault, not only the first.
func (r *Recipe) validate() error {
	var faults []error
	fault := func(at, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
	}
	checkName(fault, "name", r.Name)
	if r.Layer == "" && !nameShape.MatchString(r.Suite) {
		fault("suite", "%q is not a suite, and there is no layer to take it from", r.Suite)
	}
	if r.Layer != "" && (len(r.Extra) > 0 || r.Mirror != "" || r.Suite != "") {
		fault("layer", "suite, mirror and extra come from the layer and cannot be set beside it")
	}
	for i, p := range r.Packages {
		if !packageShape.MatchString(p) {
			fault(fmt.Sprintf("packages[%d]", i), "%q is not a package", p)
		}
	}
	for k := range r.Vars {
		if !varShape.MatchString(k) {
			fault("vars", "%q is not a variable name", k)
		}
	}
	for k, v := range r.Roots {
		checkName(fault, "roots", k)
		checkName(fault, "roots."+k, v)
	}
	r.validateParts(fault)
	return errors.Join(faults...)
}

func (r *Recipe) validateParts(fault func(at, format string, args ...any)) {
	for i, f := range r.Files {
		at := fmt.Sprintf("files[%d]", i)
		checkPath(fault, at+".path", f.Path)
		if f.Source != "" && f.Content != "" {
			fault(at, "has both content and source")
		}
		if _, err := f.mode(); err != nil {
			fault(at+".mode", "%q is not an octal mode", f.Mode)
		}
	}
	for i, s := range r.Scripts {
		if (s.Run == "") == (s.Source == "") || s.Name == "" {
			fault(fmt.Sprintf("scripts[%d]", i), "needs a name, and either run or source")
		}
	}
	for name, a := range r.Artifacts {
		checkName(fault, "artifacts", name)
		checkPath(fault, "artifacts."+name+".path", a.Path)
		if _, known := r.Roots[a.Root]; a.Root != "" && !known {
			fault("artifacts."+name+".root", "%q is not one of roots", a.Root)
		}
	}
	if r.Disk != nil {
		if _, err := parseSize(r.Disk.Size); err != nil {
			fault("disk.size", "%v", err)
		}
	}
}

func checkName(fault func(at, format string, args ...any), at, name string) {
	if !nameShape.MatchString(name) {
		fault(at, "%q is not a name (small letters, digits, dots and dashes)", name)
	}
}

func checkPath(fault func(at, format string, args ...any), at, p string) {
	if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.ContainsAny(p, "\"\n\t\\ ") {
		fault(at, "%q is not a clean absolute path", p)
	}
}

func (f File) mode() (fs.FileMode, error) {
	if f.Mode == "" {
		return 0o644, nil
	}
	m, err := strconv.ParseUint(f.Mode, 8, 12)
	return fs.FileMode(m), err
}

// parseSize reads sizes such as 512M and 3G into bytes.
func parseSize(s string) (int64, error) {
	m := sizeShape.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is not a size such as 512M or 3G", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	if m[2] == "G" {
		n <<= 10
	}
	return n << 20, nil
}
