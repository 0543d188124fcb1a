package tracing_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Importers of this package get no SDK, no server and nothing else of the
// repository.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "example.org/ordertrail/pkg/tracing").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.Fields(string(out))
	if len(paths) < 10 {
		t.Fatalf("only %d packages, the list cannot be right", len(paths))
	}
	for _, p := range paths {
		switch {
		case p == "example.org/ordertrail/pkg/tracing":
		case strings.HasPrefix(p, "example.org/ordertrail/"),
			strings.Contains(p, "nats-server"),
			strings.Contains(p, "/otel/sdk"):
			t.Errorf("imports %s", p)
		}
	}
}
