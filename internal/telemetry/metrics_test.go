package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/telemetry"
	"example.org/ordertrail/pkg/tracing"
)

// measured collects the metrics a collector is sent.
type measured struct {
	collector.UnimplementedMetricsServiceServer
	mu    sync.Mutex
	paths []string
	names []string // service.name/metric
}

func (m *measured) Export(_ context.Context, req *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, rm := range req.ResourceMetrics {
		for _, a := range rm.Resource.Attributes {
			if a.Key != "service.name" {
				continue
			}
			for _, sm := range rm.ScopeMetrics {
				for _, metric := range sm.Metrics {
					m.names = append(m.names, a.Value.GetStringValue()+"/"+metric.Name)
				}
			}
		}
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

func (m *measured) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var export collector.ExportMetricsServiceRequest
	if !decode(w, req, &export) {
		return
	}
	_, _ = m.Export(req.Context(), &export)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths = append(m.paths, req.URL.Path)
}

// send makes one send span, and the two metrics of one.
func send(p *telemetry.Providers) {
	_, s := tracing.New(tracing.WithTracerProvider(p.TracerProvider), tracing.WithMeterProvider(p.MeterProvider)).
		StartSend(context.Background(), nats.NewMsg("orders.created.1"))
	s.End(&jetstream.PubAck{Stream: "ORDERS", Sequence: 1}, nil)
}

var ofSend = []string{"payments/messaging.client.operation.duration", "payments/messaging.client.sent.messages"}

// Metrics are exported when asked for, and only then: an endpoint for everything
// is not enough.
func TestMetricsOverHTTP(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  []string
		path string // "": nothing is exported
	}{
		{"Nothing", nil, ""},
		{"EndpointForAll", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=%s", "OTEL_TRACES_EXPORTER=none"}, ""},
		{"None", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=%s", "OTEL_METRICS_EXPORTER=none"}, ""},
		{"Asked", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=%s", "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=otlp"}, "/v1/metrics"},
		{"OwnEndpoint", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=%s/here"}, "/here"},
		{"Unsampled", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=%s/here", "OTEL_TRACES_SAMPLER=always_off"}, "/here"},
		{"Disabled", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=%s/here", "OTEL_SDK_DISABLED=true"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m measured
			s := httptest.NewServer(&m)
			defer s.Close()
			var env []string
			for _, e := range tt.env {
				env = append(env, strings.ReplaceAll(e, "%s", s.URL))
			}
			setenv(t, env...)
			p := mustStart(t)
			send(p)
			mustShutdown(t, p)
			m.mu.Lock()
			defer m.mu.Unlock()
			if tt.path == "" {
				if len(m.paths) > 0 {
					t.Errorf("exported %v", m.names)
				}
				return
			}
			slices.Sort(m.names)
			if !slices.Equal(m.names, ofSend) || m.paths[0] != tt.path {
				t.Errorf("received %v at %v", m.names, m.paths)
			}
		})
	}
}

func TestMetricsOverGRPC(t *testing.T) {
	var m measured
	address := mustServe(t, func(s *grpc.Server) { collector.RegisterMetricsServiceServer(s, &m) })
	setenv(t, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://"+address, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc")
	p := mustStart(t)
	send(p)
	mustShutdown(t, p)
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Sort(m.names)
	if !slices.Equal(m.names, ofSend) {
		t.Errorf("received %v", m.names)
	}
}

func TestMetricsOnConsole(t *testing.T) {
	setenv(t, "OTEL_METRICS_EXPORTER=console")
	var out bytes.Buffer
	p := mustStart(t, telemetry.WithConsoleWriter(&out))
	send(p)
	mustShutdown(t, p)
	for _, name := range []string{"messaging.client.sent.messages", "messaging.client.operation.duration"} {
		if !strings.Contains(out.String(), fmt.Sprintf("%q", name)) {
			t.Errorf("%s is not in %s", name, out.String())
		}
	}
}

func TestMetricReader(t *testing.T) {
	setenv(t)
	r := sdkmetric.NewManualReader()
	p := mustStart(t, telemetry.WithMetricReader(r))
	send(p)
	var got metricdata.ResourceMetrics
	if err := r.Collect(context.Background(), &got); err != nil {
		t.Fatal(err)
	}
	if v, _ := got.Resource.Set().Value("service.name"); v.AsString() != "payments" || len(got.ScopeMetrics) != 1 || len(got.ScopeMetrics[0].Metrics) != 2 {
		t.Errorf("read %+v", got)
	}
}
