package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files that [Write] makes.
const (
	JSONFile = "report.json"
	HTMLFile = "report.html"
)

// Write writes report.json and report.html into dir, making it (0700) if it is missing, and gives the path of the HTML.
// Each file appears whole or not at all; one that was there before is replaced. Only the owner can read them, since they
// hold the plan.
func Write(dir string, r Report) (html string, err error) {
	r.complete()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode report: %w", err)
	}
	var page bytes.Buffer
	if err := Render(&page, r); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make report directory: %w", err)
	}
	if err := replace(filepath.Join(dir, JSONFile), append(text, '\n')); err != nil {
		return "", err
	}
	html = filepath.Join(dir, HTMLFile)
	return html, replace(html, page.Bytes())
}

// replace writes a file so that after a crash either the old or the new one is there, whole.
func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %q: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
