package tracing_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Everything exported has a comment and a runnable example whose output is
// checked, and what there is fits on one screen.
func TestSurface(t *testing.T) {
	for _, tt := range []struct{ dir, path string }{
		{".", "example.org/ordertrail/pkg/tracing"},
		{"sampling", "example.org/ordertrail/pkg/tracing/sampling"},
		{"linktest", "example.org/ordertrail/pkg/tracing/linktest"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			names, err := filepath.Glob(filepath.Join(tt.dir, "*.go"))
			if err != nil {
				t.Fatal(err)
			}
			set, files := token.NewFileSet(), []*ast.File(nil)
			for _, name := range names {
				f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
				if err != nil {
					t.Fatal(err)
				}
				if internal := strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(f.Name.Name, "_test"); !internal {
					files = append(files, f)
				}
			}
			text := "" // of the tests
			for _, name := range names {
				if b, err := os.ReadFile(name); err == nil && strings.HasSuffix(name, "_test.go") {
					text += string(b)
				}
			}
			p, err := doc.NewFromFiles(set, files, tt.path)
			if err != nil {
				t.Fatal(err)
			}
			check := func(name, comment string, examples []*doc.Example) {
				t.Helper()
				if comment == "" {
					t.Errorf("%s has no comment", name)
				}
				for _, e := range examples {
					if e.Output != "" || e.EmptyOutput {
						return
					}
				}
				// The example of the package may show several names.
				if short := "." + name; len(p.Examples) == 0 || !strings.Contains(text, short[strings.LastIndexByte(short, '.')+1:]+"(") {
					t.Errorf("%s has no example with output", name)
				}
			}
			for _, f := range p.Funcs {
				check(f.Name, f.Doc, f.Examples)
			}
			for _, typ := range p.Types {
				if typ.Doc == "" {
					t.Errorf("%s has no comment", typ.Name)
				}
				for _, f := range typ.Funcs {
					check(f.Name, f.Doc, f.Examples)
				}
				// A carrier's methods are those of propagation.TextMapCarrier.
				for _, f := range typ.Methods {
					if typ.Name != "HeaderCarrier" {
						check(typ.Name+"."+f.Name, f.Doc, f.Examples)
					}
				}
			}
			out, err := exec.Command("go", "doc", "-short", tt.path).Output()
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(out), "\n"); n < 3 || n > 40 {
				t.Errorf("go doc -short shows %d lines, which is no screen:\n%s", n, out)
			}
		})
	}
}
