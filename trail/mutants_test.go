package trail_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var withMutants = flag.Bool("mutants", false, "run TestMutants")

// Each mutant of a rule is caught by a generated world.
func TestMutants(t *testing.T) {
	mutants := []struct{ name, file, old, new string }{
		{"none", "graph.go", "", ""},
		{"phantoms do not join", "closure.go", "	case c.member[j.to]:\n", "	case to.span == nil:\n	case c.member[j.to]:\n"},
		{"links are followed one way", "closure.go", "	if j.cut || c.foreign(j.value)", "	if j.cut || j.cause && j.link != nil || c.foreign(j.value)"},
		{"parents are not followed", "closure.go", "	if j.cut || c.foreign(j.value)", "	if j.cut || j.link == nil || c.foreign(j.value)"},
		{"batches join", "closure.go", "	case to.batch:\n", "	case false:\n"},
		{"batches never join", "closure.go", "return c.own[batch] == v.targets &&", "return false &&"},
		{"producers are batches", "graph.go", `case "receive", "process", "deliver":`, `case "receive", "process", "deliver", "send":`},
		{"two links make a batch", "graph.go", "batchLinks      = 8", "batchLinks      = 1"},
		{"many links make no batch", "graph.go", "len(s.Links) > batchLinks ||", ""},
		{"dropped links are ignored", "closure.go", "v.targets > 0 && !v.lacking", "v.targets > 0"},
		{"links without ids join", "graph.go", "			if !l.valid() {", "			if false {"},
		{"links without ids do not count", "graph.go", "g.vertices[i].lacking = true", ""},
		{"a batch's child brings it in", "closure.go", "&& !c.boundary(i) ||", "||"},
		{"a batch's child decides by itself", "closure.go", "|| (j.cause || j.link == nil) && !c.boundary(i) ||", "||"},
		{"values are ignored", "graph.go", `j.cut = j.value != "" &&`, `j.cut = false &&`},
		{"values join nothing", "closure.go", `j.value != "" && !c.joined[part]`, `false`},
		{"untrusted links are followed", "graph.go", "return l.Attributes[untrustedKey] == true", "return false"},
		{"hubs of 99", "graph.go", "hubConsequences = 100", "hubConsequences = 98"},
		{"hubs count links", "graph.go", "j.cause && !j.cut && !causes[j.to]", "j.cause && !j.cut"},
		{"no hubs", "graph.go", "hubConsequences = 100", "hubConsequences = 1000000"},
		{"hubs without causes", "closure.go", "				if j.cause {\n					c.follow(hub, j)", "				if false {\n					c.follow(hub, j)"},
		{"copies are retries", "edges.go", "increasing = increasing && ", "increasing = true || "},
		{"any consumer retries", "edges.go", "n.Service, n.Attributes.first(groupKeys),", `"", "",`},
		{"plain links are described", "graph.go", `return s.Attributes.first(operationKeys) != ""`, "return true"},
		{"described links are not", "graph.go", `strings.HasPrefix(key, "link.") ||`, ""},
		{"a gap for each reference", "edges.go", "p.last[i] = span.Ref\n		}\n		return", "p.last[i] = span.Ref\n		}"},
		{"starts at borders merge", "stitch.go", `if o.Value == "" && g.boundary(i) {`, "if false {"},
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			text, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if m.old != "" && strings.Count(string(text), m.old) != 1 {
				t.Fatalf("%s has %q %d times, want once", m.file, m.old, strings.Count(string(text), m.old))
			}
			if !*withMutants {
				t.Skip("builds the package: go test ./trail -run TestMutants -mutants")
			}
			dir := t.TempDir()
			mutated := filepath.Join(dir, m.file)
			if err := os.WriteFile(mutated, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			at, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {at: mutated}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-run", "^TestGenerated$", "-seeds", "60", "-failfast", ".").CombinedOutput()
			caught := err != nil && strings.Contains(string(out), "--- FAIL: TestGenerated")
			if caught != (m.old != "") {
				t.Errorf("caught: %t: %.500s", caught, out)
			}
		})
	}
}
