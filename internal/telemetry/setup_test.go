package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
)

// variables are all that could leak from the environment of the tests.
var variables = []string{
	"OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
	"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
	"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	"OTEL_SPAN_LINK_COUNT_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
}

func setenv(t *testing.T, pairs ...string) {
	t.Helper()
	for _, v := range variables {
		t.Setenv(v, "")
	}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		t.Setenv(name, value)
	}
}

func mustStart(t *testing.T, opts ...telemetry.Option) *telemetry.Providers {
	t.Helper()
	p, err := telemetry.Start(context.Background(), "payments", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustShutdown(t, p) })
	return p
}

func mustShutdown(t *testing.T, p *telemetry.Providers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func span(p *telemetry.Providers, ctx context.Context) trace.Span {
	_, s := p.TracerProvider.Tracer("test").Start(ctx, "work")
	s.End()
	return s
}

func TestStartErrors(t *testing.T) {
	for _, tt := range []struct {
		env  string
		want string // what the error tells besides the variable
	}{
		{"OTEL_TRACES_EXPORTER=zipkin", "otlp, console, none"},
		{"OTEL_TRACES_EXPORTER=otlp,zipkin", "otlp, console, none"},
		{"OTEL_TRACES_EXPORTER=none,console", "no other"},
		{"OTEL_METRICS_EXPORTER=prometheus", "otlp, console, none"},
		{"OTEL_METRICS_EXPORTER=otlp,none", "no other"},
		{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json", "http/protobuf and grpc"},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=localhost:4318", "http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "http/protobuf and grpc"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http", "http/protobuf and grpc"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "http://localhost:4318"},
		{"OTEL_TRACES_SAMPLER=sometimes", "parentbased_traceidratio"},
		{"OTEL_TRACES_SAMPLER=parentbased_", "parentbased_traceidratio"},
		{"OTEL_TRACES_SAMPLER_ARG=2", "0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG=-0.1", "0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG=NaN", "0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG=x", "0 to 1"},
		{"OTEL_SPAN_LINK_COUNT_LIMIT=many", "whole number"},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT=many", "whole number"},
		{"OTEL_RESOURCE_ATTRIBUTES=novalue", ""},
	} {
		t.Run(tt.env, func(t *testing.T) {
			name, _, _ := strings.Cut(tt.env, "=")
			setenv(t, tt.env)
			if strings.Contains(name, "_OTLP_") {
				t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
			}
			if strings.Contains(name, "_METRICS_") && name != "OTEL_METRICS_EXPORTER" {
				t.Setenv("OTEL_METRICS_EXPORTER", "otlp")
			}
			if strings.HasSuffix(name, "_ARG") {
				t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			}
			_, err := telemetry.Start(context.Background(), "payments")
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	setenv(t)
	if _, err := telemetry.Start(context.Background(), ""); err == nil {
		t.Error("a service without a name was started")
	}
}

func TestDisabled(t *testing.T) {
	for _, tt := range []struct {
		value string
		off   bool
	}{{"true", true}, {"TRUE", true}, {"false", false}, {"1", false}, {"", false}} {
		t.Run(tt.value, func(t *testing.T) {
			setenv(t, "OTEL_SDK_DISABLED="+tt.value)
			spans := tracetest.NewSpanRecorder()
			p := mustStart(t, telemetry.WithSpanProcessor(spans))
			if valid := span(p, context.Background()).SpanContext().IsValid(); valid == tt.off {
				t.Errorf("span is valid: %t", valid)
			}
			if off := len(spans.Ended()) == 0; off != tt.off {
				t.Errorf("no spans: %t, want %t", off, tt.off)
			}
		})
	}
}

func TestSamplers(t *testing.T) {
	for _, tt := range []struct{ sampler, arg, want string }{
		{"", "", "AlwaysOnSampler"},
		{"always_on", "", "AlwaysOnSampler"},
		{"always_off", "", "AlwaysOffSampler"},
		{"traceidratio", "", "TraceIDRatioBased{1}"},
		{"traceidratio", "0.25", "TraceIDRatioBased{0.25}"},
		{"parentbased_always_on", "", "AlwaysOnSampler"},
		{"parentbased_always_off", "ignored", "AlwaysOffSampler"},
		{"parentbased_traceidratio", "0", "TraceIDRatioBased{0}"},
		{" ParentBased_TraceIDRatio ", " 0.5 ", "TraceIDRatioBased{0.5}"},
	} {
		t.Run(tt.sampler+tt.arg, func(t *testing.T) {
			setenv(t, "OTEL_TRACES_SAMPLER="+tt.sampler, "OTEL_TRACES_SAMPLER_ARG="+tt.arg)
			got, err := telemetry.Sampler()
			if err != nil {
				t.Fatal(err)
			}
			if want := "ParentBased{root:LinkAware{" + tt.want; !strings.HasPrefix(got.Description(), want) {
				t.Errorf("got %s, want %s…", got.Description(), want)
			}
		})
	}
	setenv(t, "OTEL_TRACES_SAMPLER=always_off")
	if span(mustStart(t), context.Background()).SpanContext().IsSampled() {
		t.Error("the provider does not use the sampler")
	}
}

func TestResource(t *testing.T) {
	setenv(t, "OTEL_SERVICE_NAME=all", "OTEL_RESOURCE_ATTRIBUTES=service.name=all,deployment.environment.name=test,team=env")
	ids := map[string]bool{}
	for range 2 {
		spans := tracetest.NewSpanRecorder()
		p := mustStart(t, telemetry.WithSpanProcessor(spans),
			telemetry.WithResourceAttributes(attribute.String("team", "code"), attribute.String("shard", "7")))
		span(p, context.Background())
		set := spans.Ended()[0].Resource().Set()
		for k, want := range map[attribute.Key]string{
			"service.name": "payments", "deployment.environment.name": "test", "team": "env", "shard": "7", "telemetry.sdk.language": "go",
		} {
			if got, _ := set.Value(k); got.AsString() != want {
				t.Errorf("%s is %q, want %q", k, got.AsString(), want)
			}
		}
		id, _ := set.Value("service.instance.id")
		ids[id.AsString()] = true
	}
	if len(ids) != 2 || ids[""] {
		t.Errorf("instance ids are %v", ids)
	}
}

func TestSpanLimits(t *testing.T) {
	messages := make([]jetstream.Msg, 300)
	for i := range messages {
		messages[i] = message{fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)}
	}
	for _, tt := range []struct {
		env            []string
		links, dropped int
	}{
		{nil, 300, 0},
		{[]string{"OTEL_SPAN_LINK_COUNT_LIMIT=10", "OTEL_SPAN_EVENT_COUNT_LIMIT=10"}, 10, 290},
		{[]string{"OTEL_SPAN_LINK_COUNT_LIMIT=-1", "OTEL_SPAN_EVENT_COUNT_LIMIT=-1"}, 300, 0},
	} {
		t.Run(strings.Join(tt.env, " "), func(t *testing.T) {
			setenv(t, tt.env...)
			spans := tracetest.NewSpanRecorder()
			p := mustStart(t, telemetry.WithSpanProcessor(spans))
			tracer := tracing.New(tracing.WithTracerProvider(p.TracerProvider), tracing.WithPropagators(p.Propagator))
			_ = tracer.ProcessBatch(context.Background(), messages, func(ctx context.Context, _ []jetstream.Msg) error {
				for range messages {
					trace.SpanFromContext(ctx).AddEvent("e")
				}
				return nil
			})
			s := spans.Ended()[0]
			if len(s.Links()) != tt.links || s.DroppedLinks() != tt.dropped {
				t.Errorf("%d links, %d dropped", len(s.Links()), s.DroppedLinks())
			}
			if len(s.Events()) != tt.links || s.DroppedEvents() != tt.dropped {
				t.Errorf("%d events, %d dropped", len(s.Events()), s.DroppedEvents())
			}
		})
	}
}

// message is one with a context and nothing else.
type message struct{ traceparent string }

func (m message) Headers() nats.Header                    { return nats.Header{"traceparent": {m.traceparent}} }
func (message) Subject() string                           { return "orders.created.1" }
func (message) Metadata() (*jetstream.MsgMetadata, error) { return nil, jetstream.ErrNotJSMessage }
func (message) Data() []byte                              { return nil }
func (message) Reply() string                             { return "" }
func (message) Ack() error                                { return nil }
func (message) DoubleAck(context.Context) error           { return nil }
func (message) Nak() error                                { return nil }
func (message) NakWithDelay(time.Duration) error          { return nil }
func (message) InProgress() error                         { return nil }
func (message) Term() error                               { return nil }
func (message) TermWithReason(string) error               { return nil }

func TestBaggageKeys(t *testing.T) {
	setenv(t)
	a, _ := baggage.NewMemberRaw("order.id", "1")
	b, _ := baggage.NewMemberRaw("name", "private")
	bag, _ := baggage.New(a, b)
	ctx := baggage.ContextWithBaggage(context.Background(), bag)
	for _, tt := range []struct {
		opts []telemetry.Option
		want int
	}{{nil, 0}, {[]telemetry.Option{telemetry.WithBaggageKeys("order.id", "absent")}, 1}} {
		spans := tracetest.NewSpanRecorder()
		p := mustStart(t, append(tt.opts, telemetry.WithSpanProcessor(spans))...)
		span(p, ctx)
		attrs := spans.Ended()[0].Attributes()
		if len(attrs) != tt.want || tt.want == 1 && attrs[0] != attribute.String("order.id", "1") {
			t.Errorf("attributes are %v", attrs)
		}
	}
}

func TestGlobal(t *testing.T) {
	setenv(t)
	oldProvider, oldMeters, oldPropagator := otel.GetTracerProvider(), otel.GetMeterProvider(), otel.GetTextMapPropagator()
	t.Cleanup(func() {
		otel.SetTracerProvider(oldProvider)
		otel.SetMeterProvider(oldMeters)
		otel.SetTextMapPropagator(oldPropagator)
	})
	mustStart(t)
	if otel.GetTracerProvider() != oldProvider || otel.GetMeterProvider() != oldMeters {
		t.Error("the global provider was replaced unasked")
	}
	p := mustStart(t, telemetry.WithGlobal())
	if otel.GetTracerProvider() != trace.TracerProvider(p.TracerProvider) || otel.GetMeterProvider() != metric.MeterProvider(p.MeterProvider) || len(otel.GetTextMapPropagator().Fields()) != 3 {
		t.Error("the globals were not replaced")
	}
}

func TestConsole(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER= console , console")
	var out bytes.Buffer
	p := mustStart(t, telemetry.WithConsoleWriter(nil), telemetry.WithConsoleWriter(&out))
	span(p, context.Background())
	mustShutdown(t, p)
	var got struct{ Name string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Name != "work" {
		t.Errorf("wrote %s (%v)", out.String(), err)
	}
}

func TestNone(t *testing.T) {
	for _, env := range [][]string{
		nil,
		{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
	} {
		setenv(t, env...)
		p := mustStart(t)
		span(p, context.Background())
		mustShutdown(t, p) // would report a failed export
	}
}
