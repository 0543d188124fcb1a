package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/chaosplan"
	"example.org/ordertrail/test/systemtest"
)

// SIGTERM under load: every service finishes what it has in hand and exits with
// 0, its successor does the rest. No order is lost, no message is delivered twice,
// no span is missing.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	testRestart(t, 1, 100)
}

func TestStressRestart(t *testing.T) {
	chaosplan.StressOnly(t)
	testRestart(t, 10, 500)
}

// testRestart restarts the services so many times, each time after a batch of
// orders.
func testRestart(t *testing.T, rounds, batch int) {
	t.Helper()
	spans := startCollector(t)
	server := startNATS(t)
	server.provision(t)
	js := server.jetStream(t)
	launch := func(name string) *process {
		return server.service(t, name, "OTEL_EXPORTER_OTLP_ENDPOINT="+spans.URL, "OTEL_BSP_MAX_QUEUE_SIZE=100000")
	}
	running := map[string]*process{}
	for _, name := range services {
		running[name] = launch(name)
	}
	for _, p := range running {
		p.ready(t)
	}

	customers := place(t, running[orders.Name].url(t), 0)
	// another waits for a batch of orders, with a second one on its heels.
	another := func() {
		t.Helper()
		least := customers.placed.Load() + int64(batch)
		customers.allowed.Store(least + int64(batch))
		systemtest.Until(t, "more orders are placed", func() bool { return customers.placed.Load() >= least })
	}
	restarted := []string{payments.Name, fulfillment.Name, notify.Name, inventory.Name, orders.Name}
	for range rounds {
		var old []*process
		for _, name := range restarted {
			next := launch(name)
			next.ready(t)
			old = append(old, running[name])
			running[name] = next
		}
		another()
		customers.shop.Store(running[orders.Name].url(t))
		for _, p := range old {
			p.signal(t, syscall.SIGTERM)
		}
		for _, p := range old {
			if code := p.wait(t, 10*time.Second); code != 0 {
				t.Errorf("%s: exit code %d on SIGTERM", p.name, code)
			}
		}
	}
	another()
	customers.close()
	n := int(customers.placed.Load())

	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	s, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	if got := count(ctx, t, s, "orders.created.*"); got != n {
		t.Errorf("%d orders are stored of %d that were placed", got, n)
	}
	concluded, before := -1, -1
	for ; concluded < n; before = concluded { // as long as it goes on
		systemtest.Until(t, fmt.Sprintf("%d orders are concluded, more than %d are", n, before), func() bool {
			concluded = count(ctx, t, s, "fulfillment.*.*")
			return concluded > before
		})
	}
	for _, d := range app.Durables() {
		if d.Stream != stream.OrdersStream {
			continue // deadlines are not due yet
		}
		c, err := s.Consumer(ctx, d.Name)
		if err != nil {
			t.Fatal(err)
		}
		var info *jetstream.ConsumerInfo
		systemtest.Until(t, d.Name+" is done", func() bool {
			if info, err = c.Info(ctx); err != nil {
				t.Fatal(err)
			}
			return info.NumPending == 0 && info.NumAckPending == 0
		})
		messages := 0
		for _, f := range d.Filters {
			messages += count(ctx, t, s, f)
		}
		if got := int(info.Delivered.Consumer); got != messages {
			t.Errorf("%s: %d deliveries of %d messages: want each once", d.Name, got, messages)
		}
	}
	systemtest.Until(t, "analytics has counted all", func() bool {
		var got analytics.Aggregate
		getJSON(t, running[analytics.Name].url(t)+"/analytics", &got)
		return got.Orders.Shipped == int64(n)
	})
	for _, p := range running {
		p.stop(t)
	}
	checkSpans(ctx, t, s, spans)
	t.Logf("%d orders, %d spans", n, len(spans.spans))
}

// checkSpans wants the span that published each stored event, every span that is
// somebody's parent or linked, and for each message one span per service.
func checkSpans(ctx context.Context, t *testing.T, s jetstream.Stream, c *otlpCollector) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := map[string]int{}
	want := func(id spanID, what string) {
		if _, ok := c.spans[id]; !ok {
			missing[what]++
		}
	}
	for _, subject := range stored(ctx, t, s) {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil {
			t.Fatal(err)
		}
		var id spanID
		if parent := m.Header["traceparent"]; len(parent) == 1 && len(parent[0]) == 55 {
			id = spanID{parent[0][3:35], parent[0][36:52]}
		}
		want(id, "publisher of an event")
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
	// Or the test has shown nothing.
	for _, name := range []string{payments.Name, fulfillment.Name, notify.Name, inventory.Name} {
		if len(instances[name]) < 2 {
			t.Errorf("%d instances of %s handled messages: the restart came before or after the load", len(instances[name]), name)
		}
	}
}

// stored lists the subjects of all stored events of orders.
func stored(ctx context.Context, t *testing.T, s jetstream.Stream) (subjects []string) {
	t.Helper()
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		if len(subject) > 36 {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

// count is how many messages are stored on a filter's subjects.
func count(ctx context.Context, t testing.TB, s jetstream.Stream, filter string) (n int) {
	t.Helper()
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		t.Fatal(err)
	}
	for _, messages := range info.State.Subjects {
		n += int(messages)
	}
	return n
}

// errFull is the shop's answer while too many orders are open.
var errFull = errors.New("too many orders are open")

// customers place orders at the shop, which may move.
type customers struct {
	sync.WaitGroup
	shop    atomic.Value // its URL
	placed  atomic.Int64
	allowed atomic.Int64 // how many may be placed, up to now
	enough  atomic.Bool  // no more orders
}

// close waits for the orders that are being placed.
func (c *customers) close() {
	c.enough.Store(true)
	c.Wait()
}

// place has orders placed, as many as are allowed. A request that fails is made again, with its
// Idempotency-Key, at wherever the shop is by then.
func place(t *testing.T, shop string, allowed int64) *customers {
	t.Helper()
	c := &customers{}
	c.allowed.Store(allowed)
	c.shop.Store(shop)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 5 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	var next atomic.Int64
	for range 8 {
		c.Go(func() {
			for i := next.Add(1); c.may(i); i = next.Add(1) {
				deadline := time.Now().Add(patience)
				for err := c.order(client, i); err != nil; err = c.order(client, i) {
					// The shop closes its door before its last request is answered: who
					// comes then finds nobody. All else would be its fault.
					if !errors.Is(err, errFull) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) || time.Now().After(deadline) {
						t.Errorf("order %d: %v", i, err)
						break
					}
					if errors.Is(err, errFull) {
						<-time.After(time.Second) // what Retry-After says
					}
					<-time.After(time.Millisecond)
				}
				c.placed.Add(1)
			}
		})
	}
	return c
}

// may waits until the i-th order is allowed; false means never.
func (c *customers) may(i int64) bool {
	for i > c.allowed.Load() {
		if c.enough.Load() {
			return false
		}
		<-time.After(time.Millisecond)
	}
	return true
}

func (c *customers) order(client *http.Client, i int64) error {
	token := "tok_ok"
	if i%25 == 0 {
		token = "tok_slow" // there is always one in hand
	}
	body, err := json.Marshal(map[string]any{
		"customer": map[string]string{"name": "Robin Example", "email": "robin@example.com"},
		"items":    []map[string]any{{"sku": "COMPASS", "quantity": 1}},
		"payment":  map[string]string{"token": token},
		"shipping": map[string]string{"address": "1 Trailhead Way, 12345 Sampleton"},
	})
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodPost, c.shop.Load().(string)+"/orders", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", fmt.Sprintf("order-%d", i))
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode == http.StatusTooManyRequests {
		return errFull
	}
	if err == nil && answer.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", answer.Status, got)
	}
	return err
}

// A service ends in time whoever it waits for: here the collector does not
// answer, and a mail server that does not either has many handlers waiting.
func TestStopsInTime(t *testing.T) {
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
	place(t, shop.url(t), 200).close()
	c, err := server.jetStream(t).Consumer(context.Background(), stream.OrdersStream, notify.Name)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "notify has its hands full", func() bool {
		info, err := c.Info(context.Background())
		return err == nil && info.NumAckPending >= 32
	})
	for _, p := range []*process{shop, letters} {
		p.signal(t, syscall.SIGTERM)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, p := range []*process{shop, letters} {
		p.wait(t, time.Until(deadline))
	}
}

// listen accepts connections and says nothing.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
