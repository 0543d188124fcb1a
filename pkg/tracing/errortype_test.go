package tracing

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// README.md lists the classes of errors.
func TestErrorTypesAreListed(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## Values of `error.type`")
	_, list, _ := strings.Cut(section, "\n\n")
	_, list, _ = strings.Cut(list, "\n\n")
	list, _, _ = strings.Cut(list, "\n\n")
	listed := regexp.MustCompile("[a-z_]+").FindAllString(list, -1)
	var known []string
	for _, k := range knownErrors {
		known = append(known, k.class)
	}
	slices.Sort(known)
	if !slices.Equal(listed, known) {
		t.Errorf("README.md lists %q, the classes are %q", listed, known)
	}
}
