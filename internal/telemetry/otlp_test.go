package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"example.org/ordertrail/internal/telemetry"
)

// received collects what a collector is sent.
type received struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	paths []string
	names []string
}

func (r *received) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				r.names = append(r.names, a.Value.GetStringValue())
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *received) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var export collector.ExportTraceServiceRequest
	if !decode(w, req, &export) {
		return
	}
	_, _ = r.Export(req.Context(), &export)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths = append(r.paths, req.URL.Path)
}

// decode reads what an exporter has sent over HTTP, and refuses what is no such
// message.
func decode(w http.ResponseWriter, req *http.Request, export proto.Message) bool {
	body, err := io.ReadAll(req.Body)
	if err != nil || proto.Unmarshal(body, export) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	return true
}

// mustServe serves gRPC with what register adds, and returns the address.
func mustServe(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go func() { _ = s.Serve(listener) }()
	t.Cleanup(s.Stop)
	return listener.Addr().String()
}

func TestOTLPOverHTTP(t *testing.T) {
	for _, tt := range []struct{ name, endpoint, exporter, protocol, path string }{
		{"Default", "OTEL_EXPORTER_OTLP_ENDPOINT=%s", "", "", "/v1/traces"},
		{"Traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=%s/here", "", "", "/here"},
		{"Named", "OTEL_EXPORTER_OTLP_ENDPOINT=%s", "otlp", "http/protobuf", "/v1/traces"},
		{"TwoExporters", "OTEL_EXPORTER_OTLP_ENDPOINT=%s", "console,otlp", "", "/v1/traces"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r received
			s := httptest.NewServer(&r)
			defer s.Close()
			setenv(t, fmt.Sprintf(tt.endpoint, s.URL), "OTEL_TRACES_EXPORTER="+tt.exporter, "OTEL_EXPORTER_OTLP_PROTOCOL="+tt.protocol)
			p := mustStart(t, telemetry.WithConsoleWriter(io.Discard))
			span(p, context.Background())
			mustShutdown(t, p)
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.names) != 1 || r.names[0] != "payments" || r.paths[0] != tt.path {
				t.Errorf("received %v at %v", r.names, r.paths)
			}
		})
	}
}

func TestOTLPOverGRPC(t *testing.T) {
	var r received
	address := mustServe(t, func(s *grpc.Server) { collector.RegisterTraceServiceServer(s, &r) })
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address,
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc")
	p := mustStart(t)
	span(p, context.Background())
	mustShutdown(t, p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.names) != 1 {
		t.Errorf("received %v", r.names)
	}
}

// A collector that does not answer must not hold up the end of a program.
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
