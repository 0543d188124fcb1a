package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/test/chaosplan"
)

// mutants are faults in the services and their patterns that this harness exists
// to catch: each replaces one piece of one source file.
var mutants = []struct {
	name     string
	file     string // from the repository's root
	old, new string
	test     string
}{
	{
		name: "ack before the effect", file: "internal/stream/consume.go", test: "TestChaos",
		old: "return e, d.handle(ctx, e)", new: "_ = m.Ack(); return e, d.handle(ctx, e)",
	}, {
		name: "publish without a guard", file: "internal/stream/publish.go", test: "TestChaos",
		old: "opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequenceForSubject(g.Last, g.Filter)}",
		new: "opts := []jetstream.PublishOpt{}",
	}, {
		name: "outcomes read without the sequence check", file: "internal/stream/read.go",
		old: "if applied < upTo {", new: "if false {", test: "TestChaos",
	}, {
		name: "refund without its key", file: "services/payments/payments.go", test: "TestChaos",
		old: "p.gateway.Refund(ctx, key)", new: `p.gateway.Refund(ctx, "")`,
	}, {
		name: "lease without fencing", file: "internal/stream/publish.go", test: "TestChaos",
		old: "Guard{Filter: event.StockLease.Subject(event.LeaseKey), Last: token, MsgID: t.Subject(key)}",
		new: "Guard{Filter: t.Subject(key), MsgID: t.Subject(key)}",
	}, {
		name: "conclusion by what came later", file: "services/fulfillment/judge.go", test: "TestChaos",
		old: "if e.Sequence > sequence {", new: "if false {",
	}, {
		name: "mail without a look whether it was sent", file: "services/notify/notify.go", test: "TestChaos",
		old: "sent || scheduled > due {", new: "sent && false || scheduled > due {",
	}, {
		name: "no refund for a charge that came too late", file: "services/payments/payments.go", test: "TestChaos",
		old: "return p.refund(ctx, e.Key) // the order was closed during the charge", new: "return nil",
	}, {
		name: "no deadline", file: "services/orders/orders.go", test: "TestChaos",
		old: "Due: created.CreatedAt.Add(s.deadline)", new: "Due: created.CreatedAt.Add(1000 * s.deadline)",
	}, {
		name: "events counted without their sequence", file: "services/analytics/analytics.go", test: "TestChaos",
		old: "if sequenceOf(m) <= next.AsOf {", new: "if false {",
	}, {
		name: "snapshot without an open order", file: "services/inventory/snapshot.go", test: "TestChaos",
		old: "snap.Open = append(snap.Open, openOrder{id, o.items, o.reserved, o.cancelled, o.asked})",
		new: "if !o.reserved { snap.Open = append(snap.Open, openOrder{id, o.items, o.reserved, o.cancelled, o.asked}) }",
	}, {
		name: "snapshot ahead of the log", file: "services/inventory/snapshot.go", test: "TestChaos",
		old: "snap := snapshot{Position: at,", new: "at.Sequence, at.Time = at.Sequence+5, time.Time{}; snap := snapshot{Position: at,",
	}, {
		name: "position not checked", file: "internal/stream/position.go", test: "TestChaosReplaced",
		old: "	switch {\n	case !p.Created.IsZero()", new: "	if true { return e, nil }\n	switch {\n	case !p.Created.IsZero()",
	}, {
		name: "DiscardOld", file: "internal/stream/topology.go", test: "TestChaos",
		old: "s.Storage, s.Replicas = jetstream.FileStorage, t.Replicas", new: "s.Storage, s.Replicas, s.Discard = jetstream.FileStorage, t.Replicas, jetstream.DiscardOld",
	}, {
		name: "lost dead-letter guard taken for stored", file: "internal/stream/deadletter.go", test: "TestChaosReplaced",
		old: "if sameLetter(last.Header, letter.Header) {", new: "if true {",
	},
}

// Each mutant replaces code that is there, so that a change of the code does not make
// mutants useless until the long tests run.
func TestMutantsFollowTheCode(t *testing.T) {
	for _, m := range mutants {
		code, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(code), m.old); n != 1 {
			t.Errorf("%s: %s has %q %d times: it has changed, and so must the mutant", m.name, m.file, m.old, n)
		}
	}
}

// Each mutant is caught: the very same tests fail when they are built with it, and
// pass when they are built with the file as it is.
func TestStressMutants(t *testing.T) {
	chaosplan.StressOnly(t)
	t.Run("none", func(t *testing.T) {
		unchanged := mutants[0]
		if out, err := runMutant(t, unchanged.file, unchanged.old, unchanged.old, unchanged.test, 12); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // one waits while another is built
			// Most are caught by the first seeds; a few need a rare order of events.
			out, err := runMutant(t, m.file, m.old, m.new, m.test, 80)
			failed := regexp.MustCompile(`(?m)^--- FAIL: ` + m.test + ` `).FindString(out)
			switch {
			case err == nil:
				t.Errorf("no seed failed:\n%s", out)
			case failed == "":
				t.Errorf("%s did not run: %v\n%s", m.test, err, out)
			default:
				t.Logf("%.1500s", out)
			}
		})
	}
}

// runMutant runs seeds of a test, up to the first that fails, of a build in which one
// file is another.
func runMutant(t *testing.T, file, old, replacement, test string, seeds int) (output string, err error) {
	t.Helper()
	const root = "../.."
	path, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), old); n != 1 {
		t.Fatalf("%s has %q %d times: it has changed, and so must the mutant", file, old, n)
	}
	dir := t.TempDir()
	mutated, overlay := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-overlay="+overlay, "-vet=off", "-run=^"+test+"$", "./test/chaos", fmt.Sprint("-seeds=", seeds), "-patience=20s", "-failfast")
	cmd.Dir = root
	b, err := cmd.CombinedOutput()
	return string(b), err
}
