package process

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// An operator lists dead letters, shows one, re-drives it, and has analytics count again:
// on a separate server, and on the demo's.
func TestOperator(t *testing.T) {
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		server := startNATS(t)
		server.provision(t)
		_, shop := fleet(t, server, soon)
		operate(t, server.url, shop.URL)
	})
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		p := start(t, anyPort, "ordertrail", "--nats", "127.0.0.1:0")
		shop := p.said(t, &p.stdout, `Try:\n  curl (http://\S+)/orders`)
		url := p.said(t, &p.stdout, `NATS clients can connect at (\S+)\.`)
		command(t, url, "deadletters redrive --all") // the scenario's
		operate(t, url, shop)
		p.signal(t, os.Interrupt)
		p.wait(t, patience)
	})
}

// command runs a command that must succeed, and returns its output.
func command(t *testing.T, url, args string) string {
	t.Helper()
	p, code := run(t, append(as("operator"), "NATS_URL="+url), "ordertrail", strings.Fields(args)...)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", args, code, &p.stderr)
	}
	return p.stdout.String()
}

func operate(t *testing.T, url, shopURL string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	poison := demo.Scenarios()[len(demo.Scenarios())-1]
	shop := demo.Shop{URL: shopURL, Client: http.DefaultClient}
	order, err := shop.Place(ctx, poison)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	row := regexp.MustCompile(`(?m)^(payments\.\d+) .*orders\.created\.` + order.ID + ` +5 +deliveries +card gateway: internal error$`)
	systemtest.Until(t, "the dead letter is listed", func() bool {
		if found := row.FindStringSubmatch(command(t, url, "deadletters list")); found != nil {
			id = found[1]
		}
		return id != ""
	})
	shown := command(t, url, "deadletters show "+id)
	for _, want := range []string{id, "after 5 deliveries", "ce-id: orders.created." + order.ID, `"token": "tok_poison"`, "deadletters redrive " + id} {
		if !strings.Contains(shown, want) {
			t.Errorf("deadletters show does not print %q:\n%s", want, shown)
		}
	}
	if !regexp.MustCompile(`failed span +00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\n`).MatchString(shown) {
		t.Errorf("deadletters show names no span:\n%s", shown)
	}
	// The deadline ends the order; to send it again then does no harm.
	if _, err := shop.Await(ctx, order.ID, func(o orders.Order) bool { return poison.Want.Check(o) == nil }); err != nil {
		t.Fatal(err)
	}
	if got := command(t, url, "deadletters redrive "+id); !strings.Contains(got, id+" was sent to payments again") {
		t.Errorf("deadletters redrive: %s", got)
	}
	systemtest.Until(t, "nothing is left", func() bool { return strings.Contains(command(t, url, "deadletters"), "no dead letters") })
	p, code := run(t, append(as("operator"), "NATS_URL="+url), "ordertrail", "deadletters", "redrive", id)
	refused(t, p, code, "no such dead letter", id)
	p, code = run(t, append(as("operator"), "NATS_URL="+url), "ordertrail", "deadletters", "show", "payments")
	refused(t, p, code, `"payments"`, "<consumer>.<number>")

	if got := command(t, url, "replay analytics"); !regexp.MustCompile(`^replayed \d+ events, .*were the same\n$`).MatchString(got) {
		t.Errorf("replay: %s", got)
	}
	after, err := shop.Get(ctx, order.ID)
	if err != nil || poison.Want.Check(after) != nil {
		t.Errorf("the order afterwards: %v, %v", err, poison.Want.Check(after))
	}
	for _, e := range after.Events {
		if e.Type == event.PaymentConfirmed {
			t.Error("the card was charged after all")
		}
	}
}
