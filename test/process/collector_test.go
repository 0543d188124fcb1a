package process

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanID names a span: its trace and itself, in hex.
type spanID struct{ trace, span string }

// span is an exported span with the process that exported it.
type span struct {
	*otlp.Span
	service, instance string
}

// otlpCollector takes spans and metrics by OTLP over HTTP.
type otlpCollector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   map[spanID]span
	metrics map[string]map[string]bool // by service and name
}

func startCollector(t testing.TB) *otlpCollector {
	t.Helper()
	c := &otlpCollector{spans: map[spanID]span{}, metrics: map[string]map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Errorf("export: %v", err)
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *otlpCollector) take(r *http.Request) (err error) {
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if strings.HasSuffix(r.URL.Path, "/v1/metrics") {
		return c.takeMetrics(raw)
	}
	var request collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range request.ResourceSpans {
		service := attributeOf(rs.Resource.Attributes, "service.name")
		instance := attributeOf(rs.Resource.Attributes, "service.instance.id")
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans[idOf(s.TraceId, s.SpanId)] = span{s, service.GetStringValue(), instance.GetStringValue()}
			}
		}
	}
	return nil
}

func (c *otlpCollector) takeMetrics(raw []byte) error {
	var request metrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(raw, &request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rm := range request.ResourceMetrics {
		service := attributeOf(rm.Resource.Attributes, "service.name").GetStringValue()
		if c.metrics[service] == nil {
			c.metrics[service] = map[string]bool{}
		}
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.metrics[service][m.Name] = true
			}
		}
	}
	return nil
}

func idOf(trace, span []byte) spanID {
	return spanID{hex.EncodeToString(trace), hex.EncodeToString(span)}
}

// attributeOf returns the attribute of that name, nil if there is none.
func attributeOf(attrs []*common.KeyValue, name string) *common.AnyValue {
	for _, a := range attrs {
		if a.Key == name {
			return a.Value
		}
	}
	return nil
}
