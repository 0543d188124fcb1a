package telemetry_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
)

// counting counts the links that a receiver took.
type counting struct {
	collector.UnimplementedTraceServiceServer
	mu                     sync.Mutex
	requests, spans, links int
}

func (c *counting) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans++
				c.links += len(s.Links)
				if s.DroppedLinksCount != 0 {
					c.links = -1 << 30
				}
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// mustReceive runs a receiver with gRPC's limit of 4 MiB, as Jaeger and the
// collector have it.
func mustReceive(t *testing.T) (*counting, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, s := &counting{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(s, c)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	return c, listener.Addr().String()
}

// failures collects what exporters report.
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

func batches(provider *sdktrace.TracerProvider, p *telemetry.Providers, n, size int) {
	tracer := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagators(p.Propagator))
	msgs := make([]jetstream.Msg, size)
	for i := range msgs {
		msgs[i] = message{fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)}
	}
	for range n {
		_ = tracer.ProcessBatch(context.Background(), msgs, func(context.Context, []jetstream.Msg) error { return nil })
	}
}

// No link is lost on the way to a receiver, neither of one large batch nor of
// many small ones, which the SDK would send in one message.
func TestNoLinkIsLost(t *testing.T) {
	for _, tt := range []struct {
		name    string
		n, size int
	}{{"OneLarge", 1, 10_000}, {"Many", 512, 100}} {
		t.Run(tt.name, func(t *testing.T) {
			c, addr := mustReceive(t)
			reported := failures(t)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+addr, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
			p := mustStart(t)
			batches(p.TracerProvider, p, tt.n, tt.size)
			mustShutdown(t, p)
			if c.spans != tt.n || c.links != tt.n*tt.size {
				t.Errorf("%d spans with %d links arrived in %d requests; %s", c.spans, c.links, c.requests, reported())
			}
		})
	}
	t.Run("ManyWithoutSplitting", func(t *testing.T) {
		c, addr := mustReceive(t)
		setenv(t)
		exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure())
		if err != nil {
			t.Fatal(err)
		}
		reported := failures(t)
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
		batches(provider, mustStart(t), 512, 100)
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Log(err)
		}
		if c.links == 512*100 {
			t.Errorf("all links arrived, in %d requests: splitting is not needed any more", c.requests)
		}
		t.Log(reported())
	})
}

// One span that is larger than a receiver takes is lost, and that is reported.
func TestOneSpanTooLarge(t *testing.T) {
	c, addr := mustReceive(t)
	reported := failures(t)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+addr, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	p := mustStart(t)
	batches(p.TracerProvider, p, 1, 40_000)
	span(p, context.Background())
	mustShutdown(t, p)
	if c.links != 0 || !strings.Contains(reported(), "larger than max") {
		t.Errorf("%d links arrived; reported: %s", c.links, reported())
	}
	if c.spans != 1 {
		t.Errorf("%d other spans arrived, want 1", c.spans)
	}
}
