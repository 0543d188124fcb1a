package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGoCode compiles every block of Go code, and runs the service of docs/tracing.md.
func TestGoCode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	// The overlay shows the compiler each block as a package of its own.
	overlay := map[string]map[string]string{"Replace": {}}
	flag, args := []string{"-overlay", filepath.Join(dir, "overlay.json")}, []string(nil)
	service := ""
	for i, b := range blocks(t) {
		if b.language != "go" {
			continue
		}
		name := "block" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		if err := os.WriteFile(filepath.Join(dir, name+".go"), []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(base, name, name+".go")] = filepath.Join(dir, name+".go")
		args = append(args, "./"+name)
		if b.document == "tracing.md" && strings.Contains(b.text, "func run(ctx context.Context, nc *nats.Conn)") {
			service = "./" + name
			test := filepath.Join(base, "testdata", "payments_test.go")
			read(t, test) // go test then repeats this test when the file changes
			overlay["Replace"][filepath.Join(base, name, "payments_test.go")] = test
		}
	}
	if service == "" {
		t.Fatal("docs/tracing.md has no block with the function run")
	}
	encoded, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	// The package's directory does not exist, so go test cannot run there: build first.
	test := filepath.Join(dir, "service.test")
	for _, args := range [][]string{
		slices.Concat([]string{"go", "build"}, flag, args),
		slices.Concat([]string{"go", "test", "-c", "-vet=off", "-o", test}, flag, []string{service}),
		{test},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- the test's own
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}
