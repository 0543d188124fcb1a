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
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// An operator lists dead letters, shows one, re-drives it, and has analytics count again:
// on a separate server, and on the demo's.
func TestOperator(t *testing.T) {
	full.Only(t)
	t.Parallel()
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		server := startNATS(t)
		server.provision(t)
		_, shop := fleet(t, server, soon)
		operate(t, as("operator"), server.url, shop.URL)
	})
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		p := start(t, anyPort, "ordertrail", "--nats", "127.0.0.1:0")
		shop := p.said(t, &p.stdout, `Try:\n  curl (http://\S+)/orders`)
		url := p.said(t, &p.stdout, `export NATS_URL=(nats://demo:\S+@127\.0\.0\.1:\d+)\n`)
		command(t, nil, url, "deadletters redrive --all") // the scenario's
		operate(t, nil, url, shop)
		command(t, nil, url, "provision")
		other, code := run(t, append(anyPort, "NATS_URL="+url), "ordertrail", "demo", "--once")
		if got := other.stderr.String(); code != 0 || !strings.Contains(got, "demo ignores NATS_URL") {
			t.Errorf("another demo: exit code %d: %s", code, got)
		}
		p.signal(t, os.Interrupt)
		p.wait(t, patience)
	})
}

// The demo's NATS server refuses clients without the password, which is another one each
// time, unless NATS_USER and NATS_PASSWORD set it.
func TestDemoPassword(t *testing.T) {
	full.Only(t)
	t.Parallel()
	var urls []string
	for _, env := range [][]string{nil, nil, {"NATS_USER=me", "NATS_PASSWORD=chosen"}} {
		p := start(t, append(anyPort, env...), "ordertrail", "--nats", "127.0.0.1:0")
		url := p.said(t, &p.stdout, `export NATS_URL=(\S+)\n`)
		urls = append(urls, url)
		_, addr, _ := strings.Cut(url, "@")
		for _, bad := range []string{"", "demo:wrong@", "demo@"} {
			refusal, code := run(t, []string{"NATS_URL=nats://" + bad + addr}, "ordertrail", "deadletters")
			refused(t, refusal, code, "NATS refuses the credentials")
		}
		command(t, nil, url, "deadletters")
		p.signal(t, os.Interrupt)
		p.wait(t, patience)
	}
	if urls[0] == urls[1] || !strings.HasPrefix(urls[0], "nats://demo:") || !strings.HasPrefix(urls[2], "nats://me:chosen@") {
		t.Errorf("the URLs are %q", urls)
	}
}

// command runs a command that must succeed, as a user that the environment names, and
// returns its output.
func command(t *testing.T, user []string, url, args string) string {
	t.Helper()
	p, code := run(t, append(user, "NATS_URL="+url), "ordertrail", strings.Fields(args)...)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", args, code, &p.stderr)
	}
	text, _, _ := strings.Cut(p.stdout.String(), "\npayload\n") // a payload's lines are not broken, so that it can be copied
	checkColumns(t, text)
	return p.stdout.String()
}

func operate(t *testing.T, user []string, url, shopURL string) {
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
	row := regexp.MustCompile(`(?m)^(payments\.\d+)  given up at .* after 5 deliveries\n    orders\.created\.` + order.ID + `\n    card gateway: internal error$`)
	systemtest.Until(t, "the dead letter is listed", func() bool {
		if found := row.FindStringSubmatch(command(t, user, url, "deadletters list")); found != nil {
			id = found[1]
		}
		return id != ""
	})
	shown := command(t, user, url, "deadletters show "+id)
	for _, want := range []string{id, "after 5 deliveries", "ce-id: orders.created." + order.ID, `"token": "tok_poison"`, "deadletters redrive " + id} {
		if !strings.Contains(shown, want) {
			t.Errorf("deadletters show does not print %q:\n%s", want, shown)
		}
	}
	if !regexp.MustCompile(`failed span +00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\n`).MatchString(shown) {
		t.Errorf("deadletters show names no span:\n%s", shown)
	}
	later, err := shop.Place(ctx, poison)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "the later one is listed, behind it", func() bool {
		list := command(t, user, url, "deadletters")
		first, second := strings.Index(list, order.ID), strings.Index(list, later.ID)
		if second >= 0 && first > second {
			t.Fatalf("the later dead letter comes first:\n%s", list)
		}
		return second >= 0
	})
	// The deadline ends the order; to send it again then does no harm.
	if _, err := shop.Await(ctx, order.ID, func(o orders.Order) bool { return poison.Want.Check(o) == nil }); err != nil {
		t.Fatal(err)
	}
	if got := command(t, user, url, "deadletters redrive "+id); !strings.Contains(got, id+" was sent to payments again") {
		t.Errorf("deadletters redrive: %s", got)
	}
	command(t, user, url, "deadletters redrive --all")
	systemtest.Until(t, "nothing is left", func() bool { return strings.Contains(command(t, user, url, "deadletters"), "no dead letters") })
	p, code := run(t, append(user, "NATS_URL="+url), "ordertrail", "deadletters", "redrive", id)
	refused(t, p, code, "no such dead letter", id)
	p, code = run(t, append(user, "NATS_URL="+url), "ordertrail", "deadletters", "show", "payments")
	refused(t, p, code, `"payments"`, "<consumer>.<number>")

	if got := command(t, user, url, "replay analytics"); !regexp.MustCompile(`(?s)^replayed \d+ events, .*were\s+the\s+same\n$`).MatchString(got) {
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

// Without the stream, the operator's commands fail in time.
func TestOperatorWithoutStream(t *testing.T) {
	full.Only(t)
	t.Parallel()
	server := startNATS(t)
	for _, args := range []string{"replay analytics", "restock LAST-ONE 1", "deadletters"} {
		p, code := run(t, append(as("operator"), "NATS_URL="+server.url), "ordertrail", strings.Fields(args+" --wait 300ms")...)
		if code != 1 || !strings.Contains(p.stderr.String(), "stream ORDERS") || !strings.Contains(p.stderr.String(), "provision") {
			t.Errorf("%s: exit code %d, %s", args, code, &p.stderr)
		}
	}
}
