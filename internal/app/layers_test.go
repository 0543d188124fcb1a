package app_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "example.org/ordertrail/"

// golist returns the lines that go list prints, without the module's path.
func golist(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), module, "")), "\n")
}

// Imports point down: main and cmd, app, services and storefront, the rest of internal and
// trail, pkg/tracing. Services do not import each other.
func TestImportsPointDown(t *testing.T) {
	clients := []string{"internal/app", "internal/demo", "internal/storefront"} // may import services
	edges := 0
	for _, line := range golist(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		path, imports, _ := strings.Cut(line, " ")
		for to := range strings.FieldsSeq(imports) {
			wrong := false
			switch layer, _, _ := strings.Cut(path, "/"); layer {
			case "services":
				wrong = strings.HasPrefix(to, "services/") || slices.Contains(clients, to)
			case "internal":
				wrong = strings.HasPrefix(to, "services/") && !slices.Contains(clients, path)
			case "trail":
				wrong = strings.HasPrefix(to, "services/") || strings.HasPrefix(to, "internal/") || strings.Contains(to, "nats-io")
			}
			if wrong {
				t.Errorf("%s imports %s", path, to)
			}
			if strings.HasPrefix(to, "internal/") {
				edges++
			}
		}
	}
	if edges < 30 {
		t.Fatalf("only %d imports of internal packages: the list is not complete", edges)
	}
}

// A service's binary links only what the service needs.
func TestBinariesAreSmall(t *testing.T) {
	deps := golist(t, "-deps", "./cmd/payments")
	if !slices.Contains(deps, "services/payments") {
		t.Fatal("the list is not complete")
	}
	for _, p := range deps {
		switch {
		case p == "trail", strings.HasPrefix(p, "trail/"), strings.HasPrefix(p, "services/") && p != "services/payments",
			slices.Contains([]string{"internal/app", "internal/ordertrail", "internal/outbox", "internal/storefront", "internal/web"}, p):
			t.Errorf("payments links %s", p)
		}
	}
}
