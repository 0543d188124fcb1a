// Package licenses checks the licences of the modules that the binaries link. It is a
// module of its own, so that the main module does not depend on the scanner.
package licenses

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"
)

var update = flag.Bool("update", false, "rewrite docs/licenses.txt")

const (
	root = "../.."
	list = root + "/docs/licenses.txt"
	own  = "example.org/ordertrail"
)

// allowed are the licences that a linked module may have. All let us ship a binary if
// their texts come with it; MPL-2.0 also asks for changes to its files.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// linked returns the directories of the linked packages and those above them, up to their
// module's, by module. Our own modules are left out.
func linked(t *testing.T) map[string][]string {
	t.Helper()
	// go test runs the test again when a file that it reads has changed.
	if _, err := os.ReadFile(root + "/go.mod"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}\t{{$.Dir}}{{end}}", ".", "./cmd/...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 || f[0] == own || strings.HasPrefix(f[0], own+"/") {
			continue // the standard library has no module
		}
		if modules[f[0]] == nil {
			modules[f[0]] = []string{f[1]}
		}
		for dir := f[2]; strings.HasPrefix(dir, f[1]+"/"); dir = filepath.Dir(dir) {
			if !slices.Contains(modules[f[0]], dir) {
				modules[f[0]] = append(modules[f[0]], dir)
			}
		}
	}
	if len(modules) < 20 {
		t.Fatalf("found only %d modules", len(modules))
	}
	return modules
}

// licenses returns the licences of the files in these directories whose names say so.
func licenses(t *testing.T, dirs []string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			name := strings.ToUpper(f.Name())
			if f.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			cover := licensecheck.Scan(text)
			if len(cover.Match) == 0 {
				found["unknown ("+f.Name()+")"] = true
			}
			for _, m := range cover.Match {
				if !m.IsURL {
					found[m.ID] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// docs/licenses.txt has each module that the binaries link, with its licences, and each
// licence is allowed.
func TestLicenses(t *testing.T) {
	var text strings.Builder
	modules := linked(t)
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		found := licenses(t, modules[module])
		if len(found) == 0 {
			t.Errorf("%s has no licence", module)
		}
		for _, license := range found {
			if !slices.Contains(allowed, license) {
				t.Errorf("%s has the licence %s; allowed are %s", module, license, strings.Join(allowed, ", "))
			}
		}
		fmt.Fprintf(&text, "%s %s\n", module, strings.Join(found, ", "))
	}
	if *update {
		if err := os.WriteFile(list, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("%s differs from the linked modules; read the new licences, then run go -C test/licenses test -update:\n%s", list, text.String())
	}
}
