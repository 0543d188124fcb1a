package process

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
	"example.org/ordertrail/trail"
)

// What docs/tour.md says about trails is there to be seen.
func TestCourse(t *testing.T) {
	full.Only(t)
	t.Parallel()
	p := start(t, anyPort, "ordertrail", "--nats", "127.0.0.1:0")
	shop := demo.Shop{URL: p.said(t, &p.stdout, `Try:\n  curl (http://\S+)/orders`), Client: http.DefaultClient}
	natsURL := p.said(t, &p.stdout, `export NATS_URL=(\S+)\n`)
	orderOf := func(scenario string) string { return p.said(t, &p.stdout, scenario+` +([0-9a-f-]{36})  as expected`) }
	happy := trailWhen(t, shop, orderOf("happy"), "the deadline has passed", func(s *ordertrail.Trail) bool { return !s.Pending })

	t.Run("fan-out", func(t *testing.T) {
		created := spanOf(t, happy, "orders", "publish orders.created.{order_id}")
		var services []string
		for _, e := range happy.Edges {
			if e.Kind == trail.EdgeLink && e.From == created.Ref {
				services = append(services, happy.Find(e.To).Service)
			}
		}
		if slices.Sort(services); !slices.Equal(services, []string{"analytics", "inventory", "notify", "payments"}) {
			t.Errorf("it leads to %q", services)
		}
	})
	t.Run("fan-in", func(t *testing.T) {
		if got := relationships(happy, spanOf(t, happy, "fulfillment", "fulfill order")); got != "inventory_reservation payment_confirmation" {
			t.Errorf("it links %s", got)
		}
		if alone := spanOf(t, parentsAlone(happy), "fulfillment", "fulfill order"); len(alone.Lost) != 1 {
			t.Errorf("as parents alone it loses %v", alone.Lost)
		}
	})
	t.Run("batch", func(t *testing.T) {
		if n := spanOf(t, happy, "analytics", "process"); n.Batch == nil {
			t.Error("analytics processes no batch")
		}
	})
	t.Run("retry", func(t *testing.T) {
		flaky := trailWhen(t, shop, orderOf("flaky"), "two redeliveries", func(s *ordertrail.Trail) bool { return count(s, trail.EdgeRetry) == 2 })
		if n := count(flaky, trail.EdgeRetry); n != 2 {
			t.Errorf("%d redelivery edges", n)
		}
	})
	t.Run("dead letter", func(t *testing.T) {
		poison := orderOf("poison")
		command(t, nil, natsURL, "deadletters redrive --all")
		again := func(s *ordertrail.Trail) *trail.Node {
			return find(s, "payments", "process redrive.payments.orders.created.{order_id}")
		}
		late := trailWhen(t, shop, poison, "its second try", func(s *ordertrail.Trail) bool { return again(s) != nil && !s.Pending })
		if got := relationships(late, *again(late)); got != "redrive_of triggered_by" {
			t.Errorf("it links %s", got)
		}
		if alone := parentsAlone(late); len(alone.Lanes) != 1 || alone.Duration < 3*time.Second {
			t.Errorf("as parents alone it is %d traces of %v", len(alone.Lanes), alone.Duration)
		}
	})
	t.Run("baggage", func(t *testing.T) {
		if got := spanOf(t, happy, "payments", "charge card").Attributes.Text("order.id"); got != happy.OrderID {
			t.Errorf("order.id is %q, want %q", got, happy.OrderID)
		}
	})
	p.signal(t, os.Interrupt)
	p.wait(t, patience)
}

// Link-aware sampling keeps the whole story of an order or nothing of it. A sampler that
// decides for each trace tears stories apart.
func TestCourseSampling(t *testing.T) {
	full.Only(t)
	t.Parallel()
	for sampler, whole := range map[string]bool{"parentbased_traceidratio": true, "traceidratio": false} {
		t.Run(sampler, func(t *testing.T) {
			t.Parallel()
			p, code := run(t, append(anyPort, "OTEL_TRACES_SAMPLER="+sampler, "OTEL_TRACES_SAMPLER_ARG=0.3"), "ordertrail", "--once", "--nats", "none")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, &p.stderr)
			}
			torn := 0
			trails := regexp.MustCompile(`(?m)^order [0-9a-f-]{36}  `).Split(p.stdout.String(), -1)[1:]
			for _, text := range trails {
				// A request to cancel is sampled before it knows its order.
				if !strings.HasPrefix(text, "cancelled (customer)") && strings.Contains(text, "publish ") && strings.Contains(text, "that published ") {
					torn++
				}
			}
			if len(trails) != len(demo.Scenarios()) || whole != (torn == 0) {
				t.Errorf("%d of %d trails are torn:\n%s", torn, len(trails), &p.stdout)
			}
		})
	}
}

// With consumers as children of their producers, the request's trace has everything but
// batches, and deliveries that a batch may delay.
func TestCourseParents(t *testing.T) {
	full.Only(t)
	t.Parallel()
	p := start(t, append(anyPort, "TRACE_TOPOLOGY=parent"), "ordertrail", "--nats", "none")
	shop := demo.Shop{URL: p.said(t, &p.stdout, `Try:\n  curl (http://\S+)/orders`), Client: http.DefaultClient}
	happy := trailWhen(t, shop, p.said(t, &p.stdout, `happy +([0-9a-f-]{36})  as expected`), "the deadline has passed", func(s *ordertrail.Trail) bool { return !s.Pending })
	for _, l := range happy.Lanes {
		if l.TraceID != happy.Lanes[0].TraceID && l.Service != "analytics" {
			t.Errorf("%s: %s is a trace of its own", l.Service, l.Name)
		}
	}
	if d := happy.Lanes[0].Duration; d < 3*time.Second {
		t.Errorf("the request's trace lasts %v", d)
	}
	if got := relationships(happy, spanOf(t, happy, "fulfillment", "fulfill order")); got != "inventory_reservation payment_confirmation" {
		t.Errorf("the fan-in links %s", got)
	}
	p.signal(t, os.Interrupt)
	p.wait(t, patience)
}

// trailWhen returns an order's trail when it satisfies done.
func trailWhen(t *testing.T, shop demo.Shop, order, what string, done func(*ordertrail.Trail) bool) (got *ordertrail.Trail) {
	t.Helper()
	systemtest.Until(t, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		if got, err = shop.Trail(ctx, order); err != nil {
			t.Fatal(err)
		}
		return done(got)
	})
	return got
}

func find(s *ordertrail.Trail, service, name string) *trail.Node {
	for _, l := range s.Lanes {
		for i, n := range l.Spans {
			if n.Service == service && n.Name == name {
				return &l.Spans[i]
			}
		}
	}
	return nil
}

func spanOf(t *testing.T, s *ordertrail.Trail, service, name string) trail.Node {
	t.Helper()
	n := find(s, service, name)
	if n == nil {
		t.Fatalf("there is no %s: %s", service, name)
	}
	return *n
}

func parentsAlone(s *ordertrail.Trail) *ordertrail.Trail {
	return &ordertrail.Trail{OrderID: s.OrderID, Story: *trail.Parents(&s.Story)}
}

func count(s *ordertrail.Trail, kind string) (n int) {
	for _, e := range s.Edges {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// relationships returns those of a span's links, sorted.
func relationships(s *ordertrail.Trail, n trail.Node) string {
	var all []string
	for _, e := range s.Links(n.Ref) {
		all = append(all, e.Relationship)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
