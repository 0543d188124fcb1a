package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"example.org/ordertrail/internal/telemetry"
)

// collector is a collector, over HTTP or gRPC. It has gRPC's limit of 4 MiB, as Jaeger
// has it.
type collector struct {
	traces.UnimplementedTraceServiceServer
	mu           sync.Mutex
	spans, links int
	got          []string // service.name and name of each span and metric
	paths        []string
}

func (c *collector) Export(_ context.Context, req *traces.ExportTraceServiceRequest) (*traces.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans++
				c.links += len(s.Links)
				c.got = append(c.got, s.Name)
			}
		}
	}
	return &traces.ExportTraceServiceResponse{}, nil
}

// metricsCollector is the part of a collector that takes metrics.
type metricsCollector struct {
	metrics.UnimplementedMetricsServiceServer
	*collector
}

func (c metricsCollector) Export(_ context.Context, req *metrics.ExportMetricsServiceRequest) (*metrics.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rm := range req.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.got = append(c.got, m.Name)
			}
		}
	}
	return &metrics.ExportMetricsServiceResponse{}, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var spans traces.ExportTraceServiceRequest
	var numbers metrics.ExportMetricsServiceRequest
	var export proto.Message = &spans
	if strings.Contains(r.URL.Path, "metrics") {
		export = &numbers
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || proto.Unmarshal(body, export) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = c.Export(r.Context(), &spans)
	_, _ = metricsCollector{collector: c}.Export(r.Context(), &numbers)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths = append(c.paths, r.URL.Path)
}

// mustCollect runs a collector and returns its addresses for HTTP and gRPC.
func mustCollect(t *testing.T) (c *collector, overHTTP, overGRPC string) {
	t.Helper()
	c = &collector{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, h := grpc.NewServer(), httptest.NewServer(c)
	traces.RegisterTraceServiceServer(g, c)
	metrics.RegisterMetricsServiceServer(g, metricsCollector{collector: c})
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() { g.Stop(); h.Close(); <-served })
	return c, h.URL, "http://" + listener.Addr().String()
}

// Spans are exported if an endpoint is set; metrics only if they are asked for.
func TestOTLP(t *testing.T) {
	for _, tt := range []struct {
		name, env string // HTTP and GRPC stand for the collector's addresses
		want      []string
		paths     []string
	}{
		{"Default", "", nil, nil},
		{"None", "OTEL_TRACES_EXPORTER=None OTEL_EXPORTER_OTLP_ENDPOINT=HTTP", nil, nil},
		{"Endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT=HTTP", []string{"work"}, []string{"/v1/traces"}},
		{"TracesEndpoint", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=HTTP/here", []string{"work"}, []string{"/here"}},
		{"Both", "OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_TRACES_EXPORTER=console,OTLP OTEL_EXPORTER_OTLP_PROTOCOL=HTTP/protobuf", []string{"work"}, []string{"/v1/traces"}},
		{"Metrics", "OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_TRACES_EXPORTER=none OTEL_METRICS_EXPORTER=otlp", []string{"sent"}, []string{"/v1/metrics"}},
		{"MetricsEndpoint", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=HTTP/metrics", []string{"sent"}, []string{"/metrics"}},
		{"NoMetrics", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=HTTP/metrics OTEL_METRICS_EXPORTER=none", nil, nil},
		{"Unsampled", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=HTTP/metrics OTEL_TRACES_SAMPLER=always_off", []string{"sent"}, []string{"/metrics"}},
		{"Disabled", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=HTTP/metrics OTEL_EXPORTER_OTLP_ENDPOINT=HTTP OTEL_SDK_DISABLED=true", nil, nil},
		{"GRPC", "OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_EXPORTER_OTLP_PROTOCOL=GRPC OTEL_METRICS_EXPORTER=otlp", []string{"sent", "work"}, nil},
		{"TracesGRPC", "OTEL_EXPORTER_OTLP_ENDPOINT=GRPC OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", []string{"work"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, overHTTP, overGRPC := mustCollect(t)
			var env []string
			for _, pair := range strings.Fields(tt.env) {
				name, value, _ := strings.Cut(pair, "=")
				if strings.HasSuffix(name, "ENDPOINT") {
					value = strings.NewReplacer("HTTP", overHTTP, "GRPC", overGRPC).Replace(value)
				}
				env = append(env, name+"="+value)
			}
			setenv(t, env...)
			p := mustStart(t, telemetry.WithConsoleWriter(io.Discard))
			span(p, context.Background())
			count(t, p)
			mustShutdown(t, p) // also reports a failed export
			slices.Sort(c.got)
			if !slices.Equal(c.got, tt.want) || !slices.Equal(c.paths, tt.paths) {
				t.Errorf("received %v at %v, want %v at %v", c.got, c.paths, tt.want, tt.paths)
			}
		})
	}
}

// A collector that does not answer does not delay the end of a program.
func TestShutdownIsBounded(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.URL)
	p, err := telemetry.Start(context.Background(), "payments")
	if err != nil {
		t.Fatal(err)
	}
	span(p, context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := p.Shutdown(ctx); err == nil {
		t.Error("Shutdown reports success")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Shutdown took %v", took)
	}
}

// failures collects the errors that exporters report.
func failures(t *testing.T) func() string {
	var mu sync.Mutex
	var text strings.Builder
	old := otel.GetErrorHandler()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(&text, err)
	}))
	t.Cleanup(func() { otel.SetErrorHandler(old) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

// batch makes a span with n links and events.
func batch(p trace.TracerProvider, n int) {
	links := make([]trace.Link, n)
	for i := range links {
		links[i] = trace.Link{
			SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, byte(i), byte(i >> 8)}, SpanID: trace.SpanID{1}}),
			Attributes:  []attribute.KeyValue{attribute.String("messaging.destination.name", "orders.created")},
		}
	}
	_, s := p.Tracer("test").Start(context.Background(), "batch", trace.WithLinks(links...))
	for range min(n, 300) {
		s.AddEvent("e")
	}
	s.End()
}

// Exports stay below the limit of a receiver: no link is lost, neither of one large batch
// nor of many batches that the SDK would send in one message. A span that is too large
// is lost alone, with an error.
func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		spans, size        int
		wantSpans, wantAll int
		failure            string
	}{
		{1, 10_000, 1, 10_000, ""},
		{512, 200, 512, 512 * 200, ""},
		{1, 60_000, 0, 0, "larger than max"},
	} {
		t.Run(fmt.Sprint(tt.spans, "spans", tt.size, "links"), func(t *testing.T) {
			c, _, overGRPC := mustCollect(t)
			reported := failures(t)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+overGRPC, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
			p := mustStart(t)
			for range tt.spans {
				batch(p.TracerProvider, tt.size)
			}
			span(p, context.Background())
			mustShutdown(t, p)
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.spans != tt.wantSpans+1 || c.links != tt.wantAll || !strings.Contains(reported(), tt.failure) || tt.failure == "" && reported() != "" {
				t.Errorf("%d spans with %d links arrived; reported: %q", c.spans, c.links, reported())
			}
		})
	}
}
