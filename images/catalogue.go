package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// buildFormat is part of every recipe hash: raise it when the way of building
// changes what comes out.
const buildFormat = 1

// Catalogue is a set of recipes that may build upon one another.
type Catalogue struct {
	recipes map[string]*Recipe
	hashes  map[string]string
	order   []string // each after what it needs
	bases   map[string]bool
}

// LoadCatalogue reads every *.yaml at the top of fsys. It names all faults at once.
func LoadCatalogue(fsys fs.FS) (*Catalogue, error) {
	files, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list recipes: %w", err)
	}
	c := &Catalogue{recipes: map[string]*Recipe{}, hashes: map[string]string{}, bases: map[string]bool{}}
	var faults []error
	for _, file := range files {
		if err := c.load(fsys, file); err != nil {
			faults = append(faults, fmt.Errorf("recipe %s: %w", file, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if err := c.resolve(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Catalogue) load(fsys fs.FS, file string) error {
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return err
	}
	r, err := parseRecipe(data)
	if err != nil {
		return err
	}
	if want := strings.TrimSuffix(path.Base(file), ".yaml"); r.Name != want {
		return fmt.Errorf("name: %q must be the file's name %q", r.Name, want)
	}
	if err := r.inline(fsys); err != nil {
		return err
	}
	c.recipes[r.Name] = r
	return nil
}

// Names lists the recipes, each after what it needs.
func (c *Catalogue) Names() []string { return slices.Clone(c.order) }

// Hash names the content of an image. It is empty for an unknown recipe.
func (c *Catalogue) Hash(name string) string { return c.hashes[name] }

// resolve orders the recipes, hands down what layers give, and hashes.
func (c *Catalogue) resolve() error {
	state := map[string]int{} // 1 being visited, 2 done
	var visit func(name, by string) error
	visit = func(name, by string) error {
		r, ok := c.recipes[name]
		switch {
		case !ok:
			return fmt.Errorf("recipe %s: needs %q, which does not exist", by, name)
		case state[name] == 1:
			return fmt.Errorf("recipe %s: needs itself through %s", name, by)
		case state[name] == 2:
			return nil
		}
		state[name] = 1
		for _, need := range r.needs() {
			if err := visit(need, name); err != nil {
				return err
			}
		}
		state[name] = 2
		if err := c.settle(r); err != nil {
			return fmt.Errorf("recipe %s: %w", name, err)
		}
		c.order = append(c.order, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.recipes)) {
		if err := visit(name, ""); err != nil {
			return err
		}
	}
	return nil
}

// settle completes one recipe whose needs are settled.
func (c *Catalogue) settle(r *Recipe) error {
	if base := c.recipes[r.Layer]; base != nil {
		r.inherit(base)
		c.bases[r.Layer] = true
	}
	for _, name := range r.Roots {
		c.bases[name] = true
	}
	for _, u := range r.Unpack {
		if _, ok := c.recipes[u.From].Artifacts[u.Artifact]; !ok {
			return fmt.Errorf("unpack: %s has no artifact %q", u.From, u.Artifact)
		}
	}
	if r.Mirror == "" {
		r.Mirror = DefaultMirror
	}
	hash, err := c.hash(r)
	c.hashes[r.Name] = hash
	return err
}

func (r *Recipe) inherit(base *Recipe) {
	r.Suite, r.Mirror, r.Extra = base.Suite, base.Mirror, base.Extra
	vars := maps.Clone(base.Vars)
	if vars == nil {
		vars = map[string]string{}
	}
	maps.Copy(vars, r.Vars)
	r.Vars = vars
	if r.Epoch == 0 {
		r.Epoch = base.Epoch
	}
	if r.Kernel.Cmdline == "" {
		r.Kernel.Cmdline = base.Kernel.Cmdline
	}
	if len(r.Kernel.Modules) == 0 {
		r.Kernel.Modules = base.Kernel.Modules
	}
}

func (c *Catalogue) hash(r *Recipe) (string, error) {
	content := *r
	content.Seconds = 0 // an estimate decides nothing
	needs := map[string]string{}
	for _, name := range r.needs() {
		needs[name] = c.hashes[name]
	}
	data, err := json.Marshal(struct {
		Format int
		Recipe Recipe
		Needs  map[string]string
	}{buildFormat, content, needs})
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// closure returns names and all they need, in building order.
func (c *Catalogue) closure(names []string) ([]string, error) {
	want := map[string]bool{}
	var add func(string)
	add = func(name string) {
		if want[name] {
			return
		}
		want[name] = true
		for _, need := range c.recipes[name].needs() {
			add(need)
		}
	}
	for _, name := range names {
		if c.recipes[name] == nil {
			return nil, fmt.Errorf("no recipe %q (there are: %s)", name, strings.Join(c.order, ", "))
		}
		add(name)
	}
	var all []string
	for _, name := range c.order {
		if want[name] {
			all = append(all, name)
		}
	}
	return all, nil
}
