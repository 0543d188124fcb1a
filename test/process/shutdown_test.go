package process

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/full"
	"example.org/ordertrail/test/systemtest"
)

// SIGTERM under load: every service finishes its messages and exits with 0, and its
// successor does the rest. No order is lost, no message is delivered twice, no span is
// missing, and every service exports its metrics.
func TestRestartUnderLoad(t *testing.T) {
	full.Only(t)
	t.Parallel()
	testRestart(t, 1, 100)
}

func TestStressRestart(t *testing.T) {
	chaosplan.StressOnly(t)
	testRestart(t, 10, 500)
}

// purchases are n orders that ship; some take a second, so that there is always one in
// the middle of its handling.
func purchases(n int) []chaosplan.Purchase {
	all := make([]chaosplan.Purchase, n)
	for i := range all {
		all[i].Scenario = demo.Scenarios()[0]
		if i%25 == 0 {
			all[i].Scenario.Token = "tok_slow"
		}
	}
	return all
}

// testRestart restarts the services so many times, each time between two batches of
// orders.
func testRestart(t *testing.T, rounds, batch int) {
	t.Helper()
	collected := startCollector(t)
	server := startNATS(t)
	server.provision(t)
	js := server.jetStream(t)
	launch := func(name string) *process {
		return server.service(t, name, "OTEL_METRICS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT="+collected.URL, "OTEL_BSP_MAX_QUEUE_SIZE=100000")
	}
	running := map[string]*process{}
	for _, name := range services {
		running[name] = launch(name)
	}
	for _, p := range running {
		p.ready(t)
	}

	n := (2*rounds + 1) * batch
	var shop atomic.Value
	shop.Store(running[orders.Name].url(t))
	allowed := make(chan struct{})
	customers := chaosplan.Customers{T: t, Purchases: purchases(n), Shop: func() (demo.Shop, error) {
		<-allowed
		return demo.Shop{URL: shop.Load().(string), Client: customersClient}, nil
	}}
	allow := func() {
		for range batch {
			allowed <- struct{}{}
		}
	}
	bought := make(chan struct{})
	go func() { customers.Buy(); close(bought) }()
	for round := range rounds {
		var old []*process
		for _, name := range []string{payments.Name, fulfillment.Name, notify.Name, inventory.Name, orders.Name} {
			next := launch(name)
			next.ready(t)
			old = append(old, running[name])
			running[name] = next
		}
		allow()
		systemtest.Until(t, "half of the orders are shipped", func() bool {
			return systemtest.GetAnalytics(t, running[analytics.Name].url(t)).Orders.Shipped >= 2*round*batch+batch/2
		})
		shop.Store(running[orders.Name].url(t))
		go allow()
		for _, p := range old {
			p.signal(t, syscall.SIGTERM)
		}
		exitAll(t, old)
	}
	close(allowed)
	<-bought

	ledger := systemtest.Quiet{Orders: n, Patience: 5 * patience}.Await(t, js)
	ledger.Audit(t, nil)
	customers.Audit(ledger)
	if got := ledger.Count(event.FulfillmentShipped); got != n {
		t.Errorf("%d orders are shipped of %d", got, n)
	}
	checkDeliveries(t, js, ledger)
	ledger.AuditAnalytics(t, running[analytics.Name].url(t))
	var all []*process
	for _, p := range running {
		p.signal(t, syscall.SIGTERM)
		all = append(all, p)
	}
	exitAll(t, all)
	checkSpans(t, ledger, collected)
	checkMetrics(t, collected)
	t.Logf("%d orders, %d spans", n, len(collected.spans))
}

// exitAll wants every process to exit with 0 in time.
func exitAll(t *testing.T, all []*process) {
	t.Helper()
	for _, p := range all {
		if code := p.wait(t, 10*time.Second); code != 0 {
			t.Errorf("%s: exit code %d on SIGTERM", p.name, code)
		}
	}
}

// checkDeliveries wants each durable to have delivered each of its messages once.
func checkDeliveries(t *testing.T, js jetstream.JetStream, l systemtest.Ledger) {
	t.Helper()
	for _, d := range app.Durables() {
		if d.Stream != stream.OrdersStream {
			continue // deadlines are not due yet
		}
		c, err := js.Consumer(t.Context(), d.Stream, d.Name)
		if err != nil {
			t.Fatal(err)
		}
		messages := 0
		for _, events := range l.Orders {
			for _, e := range events {
				for _, f := range d.Filters() {
					if f == e.Type.Every() {
						messages++
					}
				}
			}
		}
		if got := int(c.CachedInfo().Delivered.Consumer); got != messages {
			t.Errorf("%s: %d deliveries of %d messages", d.Name, got, messages)
		}
	}
}

// checkSpans wants the span that published each event, every span that is a parent or
// linked, and for each message one process span per service.
func checkSpans(t *testing.T, l systemtest.Ledger, c *otlpCollector) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := map[string]int{}
	want := func(id spanID, what string) {
		if _, ok := c.spans[id]; !ok {
			missing[what]++
		}
	}
	for _, events := range l.Orders {
		for _, e := range events {
			var id spanID
			if parent := e.Header.Get("traceparent"); len(parent) == 55 {
				id = spanID{parent[3:35], parent[36:52]}
			}
			want(id, "publisher of an event")
		}
	}
	instances := map[string]map[string]bool{} // that handled messages, by service
	handled := map[string]int{}               // by message and service
	for id, span := range c.spans {
		if len(span.ParentSpanId) > 0 {
			want(idOf(span.TraceId, span.ParentSpanId), "parent of "+span.Name)
		}
		for _, l := range span.Links {
			want(idOf(l.TraceId, l.SpanId), "linked by "+span.Name)
		}
		if span.DroppedLinksCount > 0 {
			t.Errorf("span %s of %s lost %d links", id, span.service, span.DroppedLinksCount)
		}
		if span.Kind != otlp.Span_SPAN_KIND_CONSUMER {
			continue
		}
		if instances[span.service] == nil {
			instances[span.service] = map[string]bool{}
		}
		instances[span.service][span.instance] = true
		if subject := attributeOf(span.Attributes, "messaging.destination.name").GetStringValue(); strings.Count(subject, ".") == 2 {
			handled[subject+" by "+span.service]++
		}
	}
	for what, n := range handled {
		if n > 1 {
			t.Errorf("%s was handled %d times", what, n)
		}
	}
	for what, n := range missing {
		t.Errorf("%d spans are missing: %s", n, what)
	}
	for _, name := range []string{payments.Name, fulfillment.Name, notify.Name, inventory.Name} {
		if len(instances[name]) < 2 {
			t.Errorf("%d instances of %s handled messages: the test has shown nothing", len(instances[name]), name)
		}
	}
}

// checkMetrics wants the metrics of what each service does with messages.
func checkMetrics(t *testing.T, c *otlpCollector) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range services {
		var want []string
		if name != orders.Name { // whose messages, the deadlines, are not due yet
			want = append(want, "messaging.process.duration", "messaging.client.consumed.messages")
		}
		if name != analytics.Name { // which publishes nothing
			want = append(want, "messaging.client.operation.duration", "messaging.client.sent.messages")
		}
		for _, metric := range want {
			if !c.metrics[name][metric] {
				t.Errorf("%s exported %v, want %s too", name, c.metrics[name], metric)
			}
		}
	}
}

// A service ends in time whatever it waits for: here a collector that does not answer,
// and a mail server that does not answer many handlers.
func TestStopsInTime(t *testing.T) {
	full.Only(t)
	t.Parallel()
	server := startNATS(t)
	server.provision(t)
	done := make(chan struct{})
	deaf := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(deaf.Close)
	mail := listen(t)
	t.Cleanup(func() { close(done) })

	export := "OTEL_EXPORTER_OTLP_ENDPOINT=" + deaf.URL
	shop := server.service(t, orders.Name, export)
	letters := server.service(t, notify.Name, export, "SMTP_URL=smtp://"+mail.Addr().String())
	shop.ready(t)
	customers := chaosplan.Customers{T: t, Purchases: purchases(200), Shop: func() (demo.Shop, error) {
		return demo.Shop{URL: shop.url(t), Client: customersClient}, nil
	}}
	customers.Buy()
	js := server.jetStream(t)
	systemtest.Until(t, "all of notify's handlers are busy", func() bool {
		c, err := js.Consumer(context.Background(), stream.OrdersStream, notify.Name)
		return err == nil && c.CachedInfo().NumAckPending >= 32
	})
	for _, p := range []*process{shop, letters} {
		p.signal(t, syscall.SIGTERM)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, p := range []*process{shop, letters} {
		p.wait(t, time.Until(deadline))
	}
}

// listen accepts connections and sends nothing.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
