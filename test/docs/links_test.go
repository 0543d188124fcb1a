package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks checks that each link within the repository has a target: a file, and its
// heading if the link names one.
func TestLinks(t *testing.T) {
	found := 0
	for _, document := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, document), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			path, heading, _ := strings.Cut(m[1], "#")
			target := document
			if path != "" {
				target = filepath.Join(filepath.Dir(document), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", document, err)
			} else if heading != "" && !slices.Contains(headings(read(t, target)), heading) {
				t.Errorf("%s: %s has no heading %s", document, target, heading)
			}
		}
	}
	if found == 0 {
		t.Error("found no links")
	}
}

// headings returns the anchors of a document's headings.
func headings(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestLayout checks that every path of the README's layout exists, and that no package is
// missing in it.
func TestLayout(t *testing.T) {
	_, layout, _ := strings.Cut(read(t, root+"/README.md"), "\n## Layout\n")
	layout = fence.FindString(layout)
	for _, path := range regexp.MustCompile(`(?m)^[\w./-]+[\w/]`).FindAllString(layout, -1) {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("README: %v", err)
		}
	}
	packages, err := filepath.Glob(root + "/internal/*")
	if err != nil || len(packages) == 0 {
		t.Fatalf("found no packages: %v", err)
	}
	for _, p := range packages {
		if path := "internal/" + filepath.Base(p); !strings.Contains(layout, path) {
			t.Errorf("the README's layout lacks %s", path)
		}
	}
}
