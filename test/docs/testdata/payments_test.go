package payments

// This test runs the service of docs/tracing.md with a NATS server and a collector.

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

func TestRun(t *testing.T) {
	var mu sync.Mutex
	spans := map[string]*otlp.Span{}
	collecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		raw, err := io.ReadAll(body)
		var export collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(raw, &export) != nil {
			t.Errorf("an export of %d bytes cannot be read: %v", len(raw), err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range export.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					spans[s.Name] = s
				}
			}
		}
	}))
	defer collecting.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collecting.URL)

	server := systemtest.Server(t)
	connect := func() *nats.Conn {
		nc, err := nats.Connect("", nats.InProcessServer(server))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	js, err := jetstream.New(connect())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>", "payments.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "payments", FilterSubject: "orders.created.*"}); err != nil {
		t.Fatal(err)
	}

	provider := sdktrace.NewTracerProvider()
	shop := tracing.New(tracing.WithTracerProvider(provider), tracing.WithPropagators(propagation.TraceContext{}))
	_, send := shop.StartSend(ctx, nats.NewMsg("orders.created.0190"))
	ack, err := js.PublishMsg(ctx, send.Msg)
	send.End(ack, err)
	if err != nil {
		t.Fatal(err)
	}
	produced := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, tracing.HeaderCarrier(send.Msg.Header)))

	done := make(chan error, 1)
	nc := connect()
	go func() { done <- run(ctx, nc) }()
	systemtest.Until(t, "the order is charged", func() bool {
		_, err := stream.GetLastMsgForSubject(ctx, "payments.confirmed.0190")
		return err == nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	mu.Lock()
	defer mu.Unlock()
	process, publish := spans["process orders.created.{order_id}"], spans["publish payments.confirmed.{order_id}"]
	if process == nil || publish == nil || spans["ack orders.created.{order_id}"] == nil {
		t.Fatalf("spans are lost, there are %v", spans)
	}
	if len(process.ParentSpanId) != 0 || len(process.Links) != 1 {
		t.Fatalf("the process span is %v, want a root with one link", process)
	}
	if link := process.Links[0]; hex.EncodeToString(link.TraceId) != produced.TraceID().String() ||
		hex.EncodeToString(link.SpanId) != produced.SpanID().String() {
		t.Errorf("the link is %v, want one to %v", link, produced)
	}
	if string(publish.ParentSpanId) != string(process.SpanId) {
		t.Error("what the handler published is no child of its process span")
	}
}
