package test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

// metrics reads what a Tracer measured.
type metrics struct {
	*sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newMetrics() metrics {
	r := sdkmetric.NewManualReader()
	return metrics{r, sdkmetric.NewMeterProvider(sdkmetric.WithReader(r))}
}

// point is one number with its attributes as text.
type point struct {
	unit   string
	attrs  map[string]string
	count  uint64 // of measurements, or the sum of a counter
	sum    float64
	bounds []float64
}

func (m metrics) points(tb testing.TB, name string) (points []point) {
	tb.Helper()
	var all metricdata.ResourceMetrics
	if err := m.Collect(context.Background(), &all); err != nil {
		tb.Fatal(err)
	}
	texts := func(set attribute.Set) map[string]string {
		texts := map[string]string{}
		for _, kv := range set.ToSlice() {
			texts[string(kv.Key)] = kv.Value.String()
		}
		return texts
	}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			if metric.Name != name {
				continue
			}
			switch data := metric.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					points = append(points, point{metric.Unit, texts(p.Attributes), p.Count, p.Sum, p.Bounds})
				}
			case metricdata.Sum[int64]:
				if !data.IsMonotonic {
					tb.Errorf("%s is not monotonic", name)
				}
				for _, p := range data.DataPoints {
					points = append(points, point{metric.Unit, texts(p.Attributes), uint64(p.Value), 0, nil})
				}
			}
		}
	}
	return points
}

// one returns the point whose attributes are exactly those in want.
func (m metrics) one(tb testing.TB, name string, want map[string]string) point {
	tb.Helper()
	points := m.points(tb, name)
	for _, p := range points {
		if len(p.attrs) != len(want) {
			continue
		}
		same := true
		for k, v := range want {
			same = same && p.attrs[k] == v
		}
		if same {
			return p
		}
	}
	tb.Fatalf("%s has no point %v among %v", name, want, points)
	return point{}
}

const (
	operationDuration = "messaging.client.operation.duration"
	processDuration   = "messaging.process.duration"
	sentMessages      = "messaging.client.sent.messages"
	consumedMessages  = "messaging.client.consumed.messages"
)

// with returns the attributes that all metrics have here, and more.
func with(pairs ...string) map[string]string {
	attrs := map[string]string{"messaging.system": "nats", "server.address": "nats.example", "server.port": "4222"}
	for i := 0; i < len(pairs); i += 2 {
		attrs[pairs[i]] = pairs[i+1]
	}
	return attrs
}

// The four metrics, by numbers that were counted by hand, whatever is sampled.
func TestPitfall16Metrics(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sampler sdktrace.Sampler
	}{{"Sampled", sdktrace.AlwaysSample()}, {"Unsampled", sdktrace.NeverSample()}} {
		t.Run(tt.name, func(t *testing.T) { testMetrics(t, tt.sampler) })
	}
	t.Run("NoTracing", func(t *testing.T) {
		testMetrics(t, sdktrace.NeverSample(), tracing.WithTracerProvider(noProvider))
	})
}

func testMetrics(t *testing.T, sampler sdktrace.Sampler, opts ...tracing.Option) {
	js := mustJetStream(t)
	ctx := context.Background()
	m := newMetrics()
	tap := newTap(sampler, append(opts, tracing.WithMeterProvider(m.provider))...)

	for _, id := range []string{"1", "2", "3"} {
		if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.created."+id), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tap.Publish(ctx, js, nats.NewMsg("orders.created.1"), jetstream.WithExpectLastSequence(99)); err == nil {
		t.Fatal("a guard that does not hold gave no error")
	}
	msgs := mustFetch(t, js, "payments", 3)
	group := tracing.WithConsumerGroup("payments")
	_ = tap.Process(ctx, msgs[0], ack, group)
	_ = tap.Process(ctx, msgs[1], func(_ context.Context, msg jetstream.Msg) error {
		_ = msg.Nak()
		return errors.New("secret")
	}, group)
	func() {
		defer func() { _ = recover() }()
		_ = tap.Process(ctx, msgs[2], func(context.Context, jetstream.Msg) error { panic("secret") }, group)
	}()
	again := mustFetch(t, js, "payments", 1) // after the Nak
	_ = tap.ProcessBatch(ctx, again, func(_ context.Context, msgs []jetstream.Msg) error { return msgs[0].Ack() })

	const template = "orders.created.{order_id}"
	op := func(name, class string) map[string]string {
		return with("messaging.operation.name", name, "messaging.operation.type", class, "messaging.destination.template", template)
	}
	send, acks, naks := op("publish", "send"), op("ack", "settle"), op("nak", "settle")
	sent := with("messaging.operation.name", "publish", "messaging.destination.template", template)
	process := with("messaging.operation.name", "process", "messaging.destination.template", template)
	batch := with("messaging.operation.name", "process", "messaging.destination.template", template)
	batchAcks := op("ack", "settle")
	acks["messaging.consumer.group.name"] = "payments"
	naks["messaging.consumer.group.name"], process["messaging.consumer.group.name"] = "payments", "payments"
	failed := func(attrs map[string]string, class string) map[string]string {
		failed := map[string]string{"error.type": class}
		for k, v := range attrs {
			failed[k] = v
		}
		return failed
	}
	for _, want := range []struct {
		name  string
		attrs map[string]string
		count uint64
	}{
		{sentMessages, sent, 3},
		{sentMessages, failed(sent, "wrong_last_sequence"), 1},
		{operationDuration, send, 3},
		{operationDuration, failed(send, "wrong_last_sequence"), 1},
		{operationDuration, acks, 1},
		{operationDuration, batchAcks, 1},
		{operationDuration, naks, 1},
		{consumedMessages, process, 3},
		{consumedMessages, batch, 1},
		{processDuration, process, 1},
		{processDuration, failed(process, "_OTHER"), 1},
		{processDuration, failed(process, "panic"), 1},
		{processDuration, batch, 1},
	} {
		if got := m.one(t, want.name, want.attrs); got.count != want.count {
			t.Errorf("%s %v is %d, want %d", want.name, want.attrs, got.count, want.count)
		}
	}
	for name, n := range map[string]int{sentMessages: 2, operationDuration: 5, consumedMessages: 2, processDuration: 4} {
		points := m.points(t, name)
		if len(points) != n {
			t.Errorf("%s has %d points, want %d: %v", name, len(points), n, points)
		}
		for _, p := range points {
			if bounds := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}; p.bounds != nil && !slices.Equal(p.bounds, bounds) {
				t.Errorf("%s has buckets %v", name, p.bounds)
			}
			if want := map[bool]string{true: "s", false: "{message}"}[p.bounds != nil]; p.unit != want {
				t.Errorf("%s is in %s, want %s", name, p.unit, want)
			}
			if p.bounds != nil && (p.sum <= 0 || p.sum > 60 || math.IsNaN(p.sum)) {
				t.Errorf("%s took %v s in total", name, p.sum)
			}
		}
	}
}

// A destination that is bounded is named, not templated; every class of errors is measured.
func TestMetricAttributes(t *testing.T) {
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider),
		tracing.WithDestinationTemplate(func(s string) string { return s }))
	_, send := tap.StartSend(context.Background(), nats.NewMsg("orders"))
	send.End(nil, nil)
	m.one(t, sentMessages, with("messaging.operation.name", "publish", "messaging.destination.name", "orders"))

	for i := range 200 {
		_ = tap.Process(context.Background(), arrived(nil), func(context.Context, jetstream.Msg) error {
			return &jetstream.APIError{ErrorCode: jetstream.ErrorCode(20_000 + i)}
		})
	}
	if n := len(m.points(t, processDuration)); n != 200 {
		t.Errorf("%d points, want 200", n)
	}
}

// Exemplars lead from a number to a trace.
func TestMetricsHaveTheSpan(t *testing.T) {
	m := newMetrics()
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m.provider))
	_ = tap.Process(context.Background(), arrived(nil), nothing)
	var all metricdata.ResourceMetrics
	if err := m.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	span := tap.only(t, "process orders.created.{order_id}").SpanContext().SpanID()
	found := 0
	for _, metric := range all.ScopeMetrics[0].Metrics {
		if h, ok := metric.Data.(metricdata.Histogram[float64]); ok && len(h.DataPoints[0].Exemplars) > 0 {
			found++
			if got := trace.SpanID(h.DataPoints[0].Exemplars[0].SpanID); got != span {
				t.Errorf("%s has an exemplar of span %s, want %s", metric.Name, got, span)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d exemplars, want 1", found)
	}
}

// globalMetrics outlives the tests, because the first provider that is set stays.
var globalMetrics = newMetrics()

// A Tracer without options uses the global provider, also if that is set later.
func TestGlobalMeterProvider(t *testing.T) {
	consumed := func() (n uint64) {
		for _, p := range globalMetrics.points(t, consumedMessages) {
			n += p.count
		}
		return n
	}
	before := consumed()
	tracer := tracing.New(tracing.WithTracerProvider(noProvider), tracing.WithPropagators(w3c()))
	otel.SetMeterProvider(globalMetrics.provider)
	_ = tracer.Process(context.Background(), arrived(nil), nothing)
	if n := consumed() - before; n != 1 {
		t.Errorf("consumed %d, want 1", n)
	}
}
