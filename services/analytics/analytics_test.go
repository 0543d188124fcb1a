package analytics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"ordertrail/internal/demo"
	"ordertrail/internal/embedded"
	"ordertrail/internal/event"
	"ordertrail/internal/service"
	"ordertrail/internal/stream"
	"ordertrail/internal/system"
	"ordertrail/internal/system/systemtest"
	"ordertrail/pkg/tracing"
	"ordertrail/services/analytics"
)

// counts are the numbers that are the same whenever and however often they are
// counted.
type counts struct {
	AsOf    uint64           `json:"as_of_sequence"`
	Orders  analytics.Orders `json:"orders"`
	Revenue event.Money      `json:"revenue"`
	Refunds event.Money      `json:"refunds"`
	Units   map[string]int64 `json:"units"`
	Reasons map[string]int64 `json:"cancelled_because"`
	Mails   int64            `json:"mails"`
	Parcels struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
		Max int64   `json:"max"`
	} `json:"time_to_parcel_ms"`
	Minutes []analytics.Minute `json:"per_minute"`
}

func (c counts) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// counting is a system whose analytics replicas can be asked one by one.
type counting struct {
	*systemtest.System
	running *system.Replica // the newest

	mu   sync.Mutex
	apis []http.Handler // of every replica there was
}

func start(tb testing.TB, change ...func(*system.Config)) *counting {
	tb.Helper()
	c := &counting{}
	c.System = systemtest.Start(tb, append(change, func(cfg *system.Config) {
		if cfg.Wire == nil {
			cfg.Wire = map[string]service.Wire{}
		}
		cfg.Wire[analytics.Name] = func(rt *service.Runtime) (service.Part, error) {
			part, err := analytics.Wire(rt)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.apis = append(c.apis, part.HTTP)
			return part, err
		}
	})...)
	c.running = c.Replica(analytics.Name, 0)
	return c
}

// MustRestart replaces the newest replica and does something in between.
func (c *counting) MustRestart(tb testing.TB, between func()) {
	tb.Helper()
	ctx, cancel := system.StopTimeout(context.Background())
	defer cancel()
	if err := c.running.Stop(ctx); err != nil {
		tb.Fatalf("stop: %v", err)
	}
	between()
	var err error
	if c.running, err = c.Run(ctx, analytics.Name); err != nil {
		tb.Fatalf("run: %v", err)
	}
}

// MustGet asks the newest replica.
func (c *counting) MustGet(tb testing.TB) counts {
	tb.Helper()
	c.mu.Lock()
	api := c.apis[len(c.apis)-1]
	c.mu.Unlock()
	return MustGet(tb, api)
}

func MustGet(tb testing.TB, api http.Handler) (c counts) {
	tb.Helper()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/analytics", nil))
	if got, want := w.Code, http.StatusOK; got != want {
		tb.Fatalf("GET /analytics: %d, want %d", got, want)
	}
	if got, want := w.Header().Get("Content-Type"), "application/json"; got != want {
		tb.Errorf("Content-Type = %q, want %q", got, want)
	}
	if err := json.NewDecoder(w.Body).Decode(&c); err != nil {
		tb.Fatalf("GET /analytics: %v", err)
	}
	return c
}

// MustAwait returns the newest replica's numbers once all of the stream is in them.
func (c *counting) MustAwait(tb testing.TB) (got counts) {
	tb.Helper()
	last := c.MustLast(tb)
	systemtest.Until(tb, fmt.Sprintf("analytics counts up to sequence %d", last), func() bool {
		got = c.MustGet(tb)
		return got.AsOf >= last
	})
	if got.AsOf != last {
		tb.Fatalf("analytics counts up to %d, the stream ends at %d", got.AsOf, last)
	}
	return got
}

// MustLast is the sequence of the last event that is counted.
func (c *counting) MustLast(tb testing.TB) (last uint64) {
	tb.Helper()
	s, err := c.JetStream().Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		tb.Fatal(err)
	}
	for _, filter := range analytics.Consumes {
		if m, err := s.GetLastMsgForSubject(context.Background(), filter); err == nil {
			last = max(last, m.Sequence)
		}
	}
	return last
}

func (c *counting) MustDelete(tb testing.TB) {
	tb.Helper()
	kv, err := c.JetStream().KeyValue(context.Background(), stream.AnalyticsBucket)
	if err != nil {
		tb.Fatal(err)
	}
	if err := kv.Delete(context.Background(), analytics.Name); err != nil {
		tb.Fatal(err)
	}
}

// MustPlay places orders of these scenarios, n of each, and awaits their ends.
func MustPlay(tb testing.TB, sys *counting, n int, names ...string) {
	tb.Helper()
	var playing sync.WaitGroup
	for _, sc := range demo.Scenarios() {
		for _, name := range names {
			for range n {
				if sc.Name != name {
					continue
				}
				playing.Go(func() {
					if _, err := demo.Play(context.Background(), sys.Shop, sc); err != nil {
						tb.Errorf("%s: %v", sc.Name, err)
					}
				})
			}
		}
	}
	playing.Wait()
}

// The numbers are those of what happened, and stay so whatever becomes of the
// stored value and of the service that counts.
func TestCounts(t *testing.T) {
	t.Parallel()
	sys := start(t)
	MustPlay(t, sys, 3, "happy", "declined", "sold-out", "undeliverable")
	want := sys.MustAwait(t)

	const parcel, soldOut = 950 + 2490, 950 + 1990
	if got, want := want.Orders, (analytics.Orders{Created: 12, Shipped: 3, Cancelled: 9}); got != want {
		t.Errorf("orders = %+v, want %+v", got, want)
	}
	if got, want := want.Revenue, (event.Money{Amount: 3 * parcel, Currency: "EUR"}); got != want {
		t.Errorf("revenue = %+v, want %+v", got, want)
	}
	if got, want := want.Refunds, (event.Money{Amount: 3*soldOut + 3*parcel, Currency: "EUR"}); got != want {
		t.Errorf("refunds = %+v, want %+v", got, want)
	}
	for sku, n := range map[string]int64{"TRAIL-MAP": 3, "COMPASS": 3, "SOLD-OUT": 0} {
		if got := want.Units[sku]; got != n {
			t.Errorf("units of %s = %d, want %d", sku, got, n)
		}
	}
	for _, reason := range []string{event.ReasonPaymentDeclined, event.ReasonOutOfStock, event.ReasonUndeliverable} {
		if got := want.Reasons[reason]; got != 3 {
			t.Errorf("cancelled because of %s = %d, want 3", reason, got)
		}
	}
	if got, want := want.Mails, int64(12+12+6); got != want { // received, shipped or cancelled, refunded
		t.Errorf("mails = %d, want %d", got, want)
	}
	if p := want.Parcels; p.P50 <= 0 || p.P99 < p.P50 || float64(p.Max) < p.P99 {
		t.Errorf("time to parcel = %+v, want 0 < p50 <= p99 <= max", p)
	}
	created := int64(0)
	for _, m := range want.Minutes {
		created += m.Created
	}
	if created != want.Orders.Created {
		t.Errorf("%d orders by minute, want %d", created, want.Orders.Created)
	}

	t.Run("Restarted", func(t *testing.T) {
		sys.MustRestart(t, func() {})
		if got := sys.MustAwait(t); got.String() != want.String() {
			t.Errorf("after a restart: %s, want %s", got, want)
		}
	})
	t.Run("DeletedWhileStopped", func(t *testing.T) {
		sys.MustRestart(t, func() { sys.MustDelete(t) })
		if got := sys.MustAwait(t); got.String() != want.String() {
			t.Errorf("rebuilt: %s, want %s", got, want)
		}
	})
	t.Run("DeletedWhileRunning", func(t *testing.T) {
		sys.MustDelete(t)
		MustPlay(t, sys, 1, "happy") // what shows the service that the value is gone
		more := sys.MustAwait(t)
		if more.Orders.Created != want.Orders.Created+1 || more.Orders.Shipped != want.Orders.Shipped+1 ||
			more.Orders.Cancelled != want.Orders.Cancelled || more.Revenue.Amount != want.Revenue.Amount+parcel {
			t.Errorf("rebuilt with one more: %s, before: %s", more, want)
		}
		sys.MustRestart(t, func() {})
		if got := sys.MustAwait(t); got.String() != more.String() {
			t.Errorf("after a restart: %s, want %s", got, more)
		}
	})
}

// Replicas that count at once, one of which even stops in the middle, count every
// event once.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	sys := start(t, func(cfg *system.Config) { cfg.Replicas = map[string]int{analytics.Name: 2} })
	MustPlay(t, sys, 15, "happy", "declined")
	sys.MustRestart(t, func() { MustPlay(t, sys, 10, "happy", "sold-out") })
	MustPlay(t, sys, 5, "happy")

	got := sys.MustAwait(t)
	if want := (analytics.Orders{Created: 55, Shipped: 30, Cancelled: 25}); got.Orders != want {
		t.Errorf("orders = %+v, want %+v", got.Orders, want)
	}
	if want := int64(30 * (950 + 2490)); got.Revenue.Amount != want {
		t.Errorf("revenue = %d, want %d", got.Revenue.Amount, want)
	}
	if want := int64(2*55 + 10); got.Mails != want {
		t.Errorf("mails = %d, want %d", got.Mails, want)
	}
	for i, api := range sys.apis[1:] {
		systemtest.Until(t, fmt.Sprintf("replica %d shows the same", i+1), func() bool { return MustGet(t, api).String() == got.String() })
	}
}

// What is there before the service starts is counted in large batches: one root
// span each, with a link to every message's producer, none dropped.
func TestBatchSpans(t *testing.T) {
	t.Parallel()
	const stored = 300
	server := systemtest.Server(t)
	producers := MustStore(t, server, stored)
	sys := systemtest.StartOn(t, server.Connect, func(cfg *system.Config) {
		cfg.Wire = map[string]service.Wire{
			"payments": systemtest.Idle, "inventory": systemtest.Idle, "fulfillment": systemtest.Idle, "notify": systemtest.Idle,
		}
	})
	linked := map[trace.SpanID]attribute.Set{}
	widest := 0
	systemtest.Until(t, "every stored event is linked", func() bool {
		clear(linked)
		for _, s := range sys.Spans.GetSpans() {
			if s.Name != "process ORDERS" {
				continue
			}
			widest = max(widest, len(s.Links))
			for _, l := range s.Links {
				linked[l.SpanContext.SpanID()] = attribute.NewSet(l.Attributes...)
			}
		}
		return len(linked) >= stored
	})
	for id, order := range producers {
		link, ok := linked[id]
		if !ok {
			t.Errorf("no batch links the span that published order %s", order)
			continue
		}
		for key, want := range map[attribute.Key]string{"order.id": order, "link.relationship": "triggered_by", "link.event_type": "orders.created"} {
			if got, _ := link.Value(key); got.AsString() != want {
				t.Errorf("link's %s = %q, want %q", key, got.AsString(), want)
			}
		}
	}
	if widest <= 128 {
		t.Errorf("the largest batch has %d links: too few to show that none is dropped", widest)
	}
	for _, s := range sys.Spans.GetSpans() {
		if s.Name == "process ORDERS" {
			checkBatch(t, s)
		}
	}
}

func checkBatch(t *testing.T, s tracetest.SpanStub) {
	t.Helper()
	if s.SpanKind != trace.SpanKindConsumer {
		t.Errorf("a batch's span is %v, want a consumer", s.SpanKind)
	}
	if s.Parent.IsValid() {
		t.Error("a batch's span has a parent, want a root")
	}
	if s.DroppedLinks > 0 {
		t.Errorf("%d links were dropped", s.DroppedLinks)
	}
	attributes := attribute.NewSet(s.Attributes...)
	for _, key := range []attribute.Key{"messaging.batch.message_count", "batch.link_count"} {
		if got, ok := attributes.Value(key); got.AsInt64() != int64(len(s.Links)) {
			t.Errorf("%s = %d (there: %t), want %d links", key, got.AsInt64(), ok, len(s.Links))
		}
	}
	if got, ok := attributes.Value("order.id"); ok {
		t.Errorf("a batch's span is said to be order %s's", got.AsString())
	}
}

// MustStore stores orders before any service runs, each published in a trace of
// its own, and returns the publishing spans with their orders.
func MustStore(tb testing.TB, server *embedded.Server, n int) map[trace.SpanID]string {
	tb.Helper()
	ctx := context.Background()
	nc, err := server.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	if err := stream.Provision(ctx, js, stream.Topology{}); err != nil {
		tb.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider()
	client, err := stream.New(nc, tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagator(propagation.TraceContext{})), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	producers := map[trace.SpanID]string{}
	for range n {
		id := event.NewOrderID()
		stored, err := client.PublishOnce(ctx, event.Draft{Type: event.OrderCreated, Payload: event.Created{
			OrderKey: event.OrderKey{OrderID: id}, Items: []event.Item{{SKU: "COMPASS", Quantity: 1}},
		}}, stream.First(event.OrderCreated, id))
		if err != nil {
			tb.Fatal(err)
		}
		span := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, tracing.HeaderCarrier(stored.Header)))
		producers[span.SpanID()] = id
	}
	return producers
}

// Under its own address analytics has all that its page needs; who is no browser
// gets JSON.
func TestOwnAddress(t *testing.T) {
	t.Parallel()
	api := start(t).Replica(analytics.Name, 0).HTTP()
	get := func(path, accept string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", accept)
		api.ServeHTTP(w, r)
		return w
	}
	if w := get("/", "text/html"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/analytics" {
		t.Errorf("GET /: %d to %q, want the page", w.Code, w.Header().Get("Location"))
	}
	page := get("/analytics", "text/html,*/*;q=0.8")
	if got := page.Header().Get("Content-Type"); page.Code != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Fatalf("GET /analytics by a browser: %d, %s", page.Code, got)
	}
	parts := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(parts) != 3 {
		t.Errorf("the page has the parts %v", parts)
	}
	for _, p := range parts {
		if w := get(p[1], "*/*"); w.Code != http.StatusOK {
			t.Errorf("GET %s: %d", p[1], w.Code)
		}
	}
	for _, accept := range []string{"", "*/*", "application/json"} {
		if got := get("/analytics", accept).Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Accept %q gets %q, want JSON", accept, got)
		}
	}
}
