package linktest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A fault in package tracing fails a one-line assertion of TestFlow, in a copy of the
// module that has the fault.
func TestFaultsInTracing(t *testing.T) {
	for _, fault := range []struct{ name, file, old, new, want string }{
		{"the link becomes a parent", "process.go", "c.untrusted, child || t.topologyParent)", "c.untrusted, true)", `"process orders.created" has the parent`},
		{"the link is dropped", "process.go", `links = append(links, c.link(creation, d, "triggered_by"))`, "_ = c", `"process orders.created" does not link "publish orders.created"`},
		{"the link has another producer", "publish.go", "s.out.inject(s.op.ctx, t,", "s.out.inject(ctx, t,", `"process orders.created" does not link "publish orders.created"`},
		{"the baggage is lost", "propagation.go", "ctx = t.propagator.Extract(ctx, t.carrier(h))", "ctx = trace.ContextWithRemoteSpanContext(ctx, t.creation(h))", `"charge" lacks order.id=1`},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, fault.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(text), fault.old) != 1 {
				t.Fatalf("%s does not have %q once", fault.file, fault.old)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), fault.old, fault.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			test := exec.Command("go", "test", "-run", "^TestFlow$", "./linktest")
			test.Dir, test.Env = dir, append(os.Environ(), "GOWORK=off")
			out, err := test.CombinedOutput()
			if err == nil || !strings.Contains(string(out), fault.want) {
				t.Errorf("TestFlow passes, or does not report %s:\n%s", fault.want, out)
			}
		})
	}
}
