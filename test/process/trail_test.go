package process

import (
	"os"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/trail"
)

// The command trail prints an order's trail, by the id of the order or of any of its
// traces or spans. Without a terminal it prints no colour.
func TestTrailCommand(t *testing.T) {
	full.Only(t)
	t.Parallel()
	p := start(t, anyPort, "ordertrail", "--nats", "none")
	url := p.said(t, &p.stdout, `Try:\n  curl (http://\S+)/orders`)
	story := p.stdout.String()
	if got := strings.Count(story, "critical path (*): "); got != len(demo.Scenarios()) {
		t.Errorf("the demo prints %d trails of %d scenarios", got, len(demo.Scenarios()))
	}
	order := p.said(t, &p.stdout, `undeliverable +([0-9a-f-]{36})  as expected`)
	printed, code := run(t, nil, "ordertrail", "trail", order, "--url", url)
	text := printed.stdout.String()
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &printed.stderr)
	}
	for _, want := range []string{
		"order " + order + "  cancelled (undeliverable), refunded", "orders: POST /orders", "⇠ triggered_by orders: publish orders.created.{order_id}",
		"⇠ payment_confirmation payments: publish payments.confirmed.{order_id}", "book parcel  refused", "refund card  undo", "links belong here",
		"critical path (*): ",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// Whether that order waits depends on the machine. This one always does.
	late := p.said(t, &p.stdout, `poison +([0-9a-f-]{36})  as expected`)
	waits, code := run(t, nil, "ordertrail", "trail", late, "--url", url)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &waits.stderr)
	}
	waits.said(t, &waits.stdout, `wait for orders: process deadlines\.due\.\{order_id\}`)
	alone, code := run(t, nil, "ordertrail", "trail", late, "--url", url, "--parents")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, &alone.stderr)
	}
	alone.said(t, &alone.stdout, ` in 1 trace, (?s:.*)\d causes lost\n(?s:.*)fulfillment: fulfill order.*\n +lost: ⇠ inventory_reservation`)
	checkColumns(t, story+text+waits.stdout.String()+alone.stdout.String())
	if strings.Contains(story+text, "\x1b") {
		t.Error("there is colour without a terminal")
	}

	trace := printed.said(t, &printed.stdout, `trace ([0-9a-f]{32})\n`) // the order's own: the request
	again, code := run(t, nil, "ordertrail", "trail", "-url", url, strings.ToUpper(trace))
	if got := again.stdout.String(); code != 0 || !strings.HasPrefix(got, "order "+order) {
		t.Errorf("from trace %s: exit code %d: %s%s", trace, code, got, &again.stderr)
	}

	p2, code := run(t, nil, "ordertrail", "trail", "x")
	refused(t, p2, code, "the id of an order, of a trace or of a span")
	p2, code = run(t, nil, "ordertrail", "trail", "-url", url, strings.Repeat("ab", 16))
	refused(t, p2, code, "404", "no span of it is known")
	p2, code = run(t, nil, "ordertrail", "trail", "-url", url, "01890000-0000-7000-8000-000000000000")
	refused(t, p2, code, "404", "no such order")
	p2, code = run(t, nil, "ordertrail", "trail", "-url", "http://127.0.0.1:"+freePort(t), order)
	refused(t, p2, code, "refused")

	p.signal(t, os.Interrupt)
	if code := p.wait(t, 5*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// checkColumns wants each line of an output to fit a terminal.
func checkColumns(t *testing.T, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		if n := trail.Width(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
