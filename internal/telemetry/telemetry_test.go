package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/telemetry"
)

// setenv sets variables, given as name=value, and empties all others that Start reads.
func setenv(t *testing.T, pairs ...string) {
	t.Helper()
	for _, v := range []string{
		"SDK_DISABLED", "SERVICE_NAME", "RESOURCE_ATTRIBUTES", "PROPAGATORS", "TRACES_EXPORTER", "METRICS_EXPORTER",
		"EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT", "EXPORTER_OTLP_METRICS_ENDPOINT",
		"EXPORTER_OTLP_PROTOCOL", "EXPORTER_OTLP_TRACES_PROTOCOL", "EXPORTER_OTLP_METRICS_PROTOCOL",
		"EXPORTER_OTLP_TRACES_COMPRESSION", "EXPORTER_OTLP_INSECURE", "EXPORTER_OTLP_TIMEOUT", "EXPORTER_OTLP_HEADERS",
		"EXPORTER_OTLP_METRICS_HEADERS", "EXPORTER_OTLP_CERTIFICATE", "BSP_MAX_QUEUE_SIZE", "BSP_SCHEDULE_DELAY",
		"METRIC_EXPORT_INTERVAL", "METRICS_EXEMPLAR_FILTER", "EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "ATTRIBUTE_COUNT_LIMIT",
		"TRACES_SAMPLER", "TRACES_SAMPLER_ARG", "SPAN_LINK_COUNT_LIMIT", "SPAN_EVENT_COUNT_LIMIT",
	} {
		t.Setenv("OTEL_"+v, "")
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// span makes a span in ctx and returns its context.
func span(p *telemetry.Providers, ctx context.Context) trace.SpanContext {
	_, s := p.TracerProvider.Tracer("test").Start(ctx, "work")
	s.End()
	return s.SpanContext()
}

// remote returns a context with a remote parent.
func remote(flags trace.TraceFlags) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags, Remote: true,
	}))
}

// ownedProcessor counts the calls of Shutdown.
type ownedProcessor struct {
	sdktrace.SpanProcessor
	ended int
}

func (p *ownedProcessor) Shutdown(context.Context) error {
	p.ended++
	return nil
}

// wantEnded checks that end shuts the caller's processor and reader down.
func wantEnded(t *testing.T, end func(...telemetry.Option)) {
	t.Helper()
	processor, reader := &ownedProcessor{SpanProcessor: tracetest.NewSpanRecorder()}, sdkmetric.NewManualReader()
	end(telemetry.WithSpanProcessor(processor), telemetry.WithMetricReader(reader))
	if processor.ended != 1 {
		t.Errorf("the processor is shut down %d times", processor.ended)
	}
	if err := reader.Collect(context.Background(), new(metricdata.ResourceMetrics)); !errors.Is(err, sdkmetric.ErrReaderShutdown) {
		t.Errorf("the reader is not shut down: %v", err)
	}
}

// A wrong variable is an error that names it and the allowed values, but not the value.
func TestStartErrors(t *testing.T) {
	const otlp = "OTEL_TRACES_EXPORTER=otlp OTEL_METRICS_EXPORTER=otlp "
	for _, tt := range []struct{ env, want string }{
		{"OTEL_TRACES_EXPORTER=zipkin", "otlp, console"},
		{"OTEL_TRACES_EXPORTER=otlp,zipkin", "otlp, console"},
		{"OTEL_TRACES_EXPORTER=none,console", "or none"},
		{"OTEL_METRICS_EXPORTER=prometheus", "otlp, console"},
		{"OTEL_METRICS_EXPORTER=otlp,none", "or none"},
		{otlp + "OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "http/protobuf or grpc"},
		{otlp + "OTEL_EXPORTER_OTLP_PROTOCOL=console", "http/protobuf or grpc"},
		{otlp + "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http", "http/protobuf or grpc"},
		{otlp + "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/json", "http/protobuf or grpc"},
		{otlp + "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=secret:4318", "http://localhost:4318"},
		{otlp + "OTEL_EXPORTER_OTLP_ENDPOINT=secret:4318", "http://localhost:4318"},
		{otlp + "OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_ENDPOINT=secret:4317", "http://localhost:4317"},
		{"OTEL_PROPAGATORS=tracecontext,w3c", "tracecontext, baggage"},
		{"OTEL_TRACES_SAMPLER=sometimes", "parentbased_traceidratio"},
		{"OTEL_TRACES_SAMPLER=parentbased_", "parentbased_traceidratio"},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=2", "0 to 1"},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=-0.1", "0 to 1"},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=NaN", "0 to 1"},
		{"OTEL_TRACES_SAMPLER=traceidratio OTEL_TRACES_SAMPLER_ARG=x", "0 to 1"},
		{"OTEL_SPAN_LINK_COUNT_LIMIT=many", "whole number"},
		{"OTEL_SPAN_EVENT_COUNT_LIMIT=many", "whole number"},
		{"OTEL_RESOURCE_ATTRIBUTES=novalue", "key=value"},
		{"OTEL_SDK_DISABLED=yes", "true or false"},
		{"OTEL_SDK_DISABLED=1", "true or false"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "http/protobuf or grpc"},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=secret:4318", "http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=zip", "gzip or none"},
		{"OTEL_EXPORTER_OTLP_INSECURE=yes", "true or false"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT=10s", "a whole number, 0 or more"},
		{"OTEL_EXPORTER_OTLP_HEADERS=secret", "key=value"},
		{"OTEL_EXPORTER_OTLP_METRICS_HEADERS=key=%secret", "key=value"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE=/does/not/exist", "no such file"},
		{"OTEL_BSP_MAX_QUEUE_SIZE=0", "1 or more"},
		{"OTEL_BSP_SCHEDULE_DELAY=1s", "1 or more"},
		{"OTEL_METRIC_EXPORT_INTERVAL=-1", "1 or more"},
		{"OTEL_METRICS_EXEMPLAR_FILTER=some", "trace_based"},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=some", "lowmemory"},
		{"OTEL_ATTRIBUTE_COUNT_LIMIT=many", "whole number"},
	} {
		t.Run(tt.env, func(t *testing.T) {
			env := strings.Fields(tt.env)
			setenv(t, env...)
			name, _, _ := strings.Cut(env[len(env)-1], "=")
			wantEnded(t, func(opts ...telemetry.Option) {
				_, err := telemetry.Start(context.Background(), "payments", opts...)
				if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// A start that fails leaves no exporter behind, also not one that was made already.
func TestFailedStartLeaksNothing(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER=console,otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_METRICS_EXPORTER=otlp,no-such")
	before := runtime.NumGoroutine()
	for range 20 {
		if _, err := telemetry.Start(context.Background(), "payments"); err == nil {
			t.Fatal("started")
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		<-time.After(time.Millisecond)
	}
}

// A disabled SDK records nothing, but spans still carry the context of their parent, and
// Shutdown ends the caller's processors and readers.
func TestDisabled(t *testing.T) {
	for _, tt := range []struct {
		value string
		off   bool
	}{{"true", true}, {"TRUE", true}, {"false", false}, {"", false}} {
		t.Run(tt.value, func(t *testing.T) {
			setenv(t, "OTEL_SDK_DISABLED="+tt.value, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1")
			if !tt.off {
				t.Setenv("OTEL_TRACES_EXPORTER", "none")
			}
			spans := tracetest.NewSpanRecorder()
			p := mustStart(t, telemetry.WithSpanProcessor(spans))
			sc := span(p, remote(trace.FlagsSampled))
			if off := len(spans.Ended()) == 0; off != tt.off {
				t.Errorf("no spans: %t, want %t", off, tt.off)
			}
			if sc.TraceID() != (trace.TraceID{1}) || tt.off && sc.SpanID() != (trace.SpanID{1}) {
				t.Errorf("the context is not passed on: %v", sc)
			}
			wantEnded(t, func(opts ...telemetry.Option) { mustShutdown(t, mustStart(t, opts...)) })
		})
	}
}

// The samplers mean what the specification says: those without parentbased_ decide
// alone.
func TestSamplers(t *testing.T) {
	for _, tt := range []struct {
		sampler, arg                       string
		root, ofSampled, ofUnsampledParent bool
	}{
		{"", "", true, true, false},
		{"always_on", "", true, true, true},
		{"ALWAYS_OFF", "", false, false, false},
		{"traceidratio", "", true, true, true},
		{"traceidratio", "0", false, false, false},
		{"parentbased_always_on", "", true, true, false},
		{"parentbased_always_off", "ignored", false, true, false},
		{" ParentBased_TraceIDRatio ", " 0 ", false, true, false},
	} {
		t.Run(tt.sampler+tt.arg, func(t *testing.T) {
			setenv(t, "OTEL_TRACES_SAMPLER="+tt.sampler, "OTEL_TRACES_SAMPLER_ARG="+tt.arg)
			p := mustStart(t)
			got := []bool{span(p, context.Background()).IsSampled(), span(p, remote(trace.FlagsSampled)).IsSampled(), span(p, remote(0)).IsSampled()}
			if want := []bool{tt.root, tt.ofSampled, tt.ofUnsampledParent}; !slices.Equal(got, want) {
				t.Errorf("sampled: root, child of sampled, child of unsampled = %v, want %v", got, want)
			}
		})
	}
}

func TestPropagators(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  []string
	}{
		{"", []string{"baggage", "traceparent"}},
		{" TraceContext ,", []string{"traceparent"}},
		{"b3", []string{"b3"}},
		{"none", nil},
	} {
		setenv(t, "OTEL_PROPAGATORS="+tt.value)
		member, err := baggage.NewMember("k", "v")
		if err != nil {
			t.Fatal(err)
		}
		bag, err := baggage.New(member)
		if err != nil {
			t.Fatal(err)
		}
		carrier := propagation.MapCarrier{}
		mustStart(t).Propagator.Inject(baggage.ContextWithBaggage(remote(trace.FlagsSampled), bag), carrier)
		got := carrier.Keys()
		if slices.Sort(got); !slices.Equal(got, tt.want) {
			t.Errorf("%q injects %v, want %v", tt.value, got, tt.want)
		}
	}
}

// A process of one service takes its name from the environment; of several services, each
// keeps its own.
func TestResource(t *testing.T) {
	ids := map[string]bool{}
	for _, tt := range []struct {
		env  []string
		opts []telemetry.Option
		want string
	}{
		{nil, nil, "payments"},
		{[]string{"OTEL_SERVICE_NAME=all"}, nil, "payments"},
		{[]string{"OTEL_SERVICE_NAME=cards"}, []telemetry.Option{telemetry.WithNameFromEnv()}, "cards"},
		{nil, []telemetry.Option{telemetry.WithNameFromEnv()}, "payments"},
	} {
		setenv(t, append(tt.env, "OTEL_RESOURCE_ATTRIBUTES=team=checkout")...)
		spans := tracetest.NewSpanRecorder()
		span(mustStart(t, append(tt.opts, telemetry.WithSpanProcessor(spans))...), context.Background())
		set := spans.Ended()[0].Resource().Set()
		for k, want := range map[attribute.Key]string{"service.name": tt.want, "team": "checkout", "telemetry.sdk.language": "go"} {
			if got, _ := set.Value(k); got.AsString() != want {
				t.Errorf("%v: %s is %q, want %q", tt.env, k, got.AsString(), want)
			}
		}
		id, _ := set.Value("service.instance.id")
		ids[id.AsString()] = true
	}
	if len(ids) != 4 || ids[""] {
		t.Errorf("instance ids are %v", ids)
	}
}

func TestSpanLimits(t *testing.T) {
	for _, tt := range []struct {
		value string
		kept  int
	}{{"", 300}, {"10", 10}, {"-1", 300}} {
		setenv(t, "OTEL_SPAN_LINK_COUNT_LIMIT="+tt.value, "OTEL_SPAN_EVENT_COUNT_LIMIT="+tt.value)
		spans := tracetest.NewSpanRecorder()
		batch(mustStart(t, telemetry.WithSpanProcessor(spans)).TracerProvider, 300)
		if s := spans.Ended()[0]; len(s.Links()) != tt.kept || len(s.Events()) != tt.kept || s.DroppedLinks() != 300-tt.kept {
			t.Errorf("limit %q: %d links, %d events", tt.value, len(s.Links()), len(s.Events()))
		}
	}
}

func TestBaggageKeys(t *testing.T) {
	setenv(t)
	bag, err := baggage.Parse("order.id=1,name=private")
	if err != nil {
		t.Fatal(err)
	}
	ctx := baggage.ContextWithBaggage(context.Background(), bag)
	for _, keys := range [][]string{nil, {"order.id", "absent"}} {
		spans := tracetest.NewSpanRecorder()
		span(mustStart(t, telemetry.WithBaggageKeys(keys...), telemetry.WithSpanProcessor(spans)), ctx)
		attrs := spans.Ended()[0].Attributes()
		if len(attrs) != len(keys)/2 || len(attrs) == 1 && attrs[0] != attribute.String("order.id", "1") {
			t.Errorf("keys %v: attributes are %v", keys, attrs)
		}
	}
}

func TestConsole(t *testing.T) {
	setenv(t, "OTEL_TRACES_EXPORTER= Console , console", "OTEL_METRICS_EXPORTER=CONSOLE")
	var spans, both bytes.Buffer
	p := mustStart(t, telemetry.WithConsoleWriter(&both))
	count(t, p)
	span(p, context.Background())
	mustShutdown(t, p)
	if !strings.Contains(both.String(), `"sent"`) || strings.Count(both.String(), `"work"`) != 1 {
		t.Errorf("wrote %s", &both)
	}
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	p = mustStart(t, telemetry.WithConsoleWriter(&spans))
	span(p, context.Background())
	mustShutdown(t, p)
	var got struct{ Name string }
	if err := json.Unmarshal(spans.Bytes(), &got); err != nil || got.Name != "work" {
		t.Errorf("wrote %s (%v)", &spans, err)
	}
}

// count adds to a counter.
func count(t *testing.T, p *telemetry.Providers) {
	t.Helper()
	sent, err := p.MeterProvider.Meter("test").Int64Counter("sent")
	if err != nil {
		t.Fatal(err)
	}
	sent.Add(context.Background(), 1)
}
