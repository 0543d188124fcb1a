package test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/pkg/tracing"
)

func TestHeaderCarrierValuesAndKeys(t *testing.T) {
	c := tracing.HeaderCarrier{"Baggage": {"a=1", "b=2"}}
	if got := c.Values("baggage"); !slices.Equal(got, []string{"a=1", "b=2"}) {
		t.Errorf("values are %v", got)
	}
	if got := (tracing.HeaderCarrier{"Xraceparent": {"c"}}).Get("tracestate"); got != "" {
		t.Errorf("tracestate is %q", got)
	}
	if got := c.Values("none"); got != nil {
		t.Errorf("values are %v", got)
	}
	if got := c.Keys(); !slices.Equal(got, []string{"Baggage"}) {
		t.Errorf("keys are %v", got)
	}
}

func TestHeaderCarrierSet(t *testing.T) {
	tracing.HeaderCarrier(nil).Set("a", "b")
	c := tracing.HeaderCarrier{"a": {"1", "2"}}
	c.Set("a", "3")
	for _, key := range []string{"", "a b", "a:b", "a\r\nb", "ä", "a(b", "a\\b"} {
		c.Set(key, "x")
	}
	if len(c) != 1 || !slices.Equal(c["a"], []string{"3"}) {
		t.Errorf("header is %v", c)
	}
}

func FuzzHeaderCarrier(f *testing.F) {
	f.Add("traceparent", valid, "tracestate", "a=1", "baggage", "k=v")
	f.Add("Traceparent", valid+"-x", "Xraceparent", valid, "", "")
	f.Add("TRACEPARENT", "", "traceparent", "00--", "BAGGAGE", ",,=;")
	tracer := tracing.New(tracing.WithTracerProvider(noProvider), tracing.WithPropagators(w3c()))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3 string) {
		h := nats.Header{k1: {v1}, k2: {v2, v1}, k3: {v3}, "empty": {}, "nil": nil}
		c := tracing.HeaderCarrier(h)
		for _, k := range append(c.Keys(), "traceparent", "tracestate", "baggage") {
			if vs, v := c.Values(k), c.Get(k); len(vs) > 0 && !strings.HasPrefix(v, vs[0]) || len(vs) == 0 && v != "" {
				t.Errorf("Get(%q) is %q, Values are %q", k, v, vs)
			}
		}
		l := tracer.Link(h)
		sc := trace.SpanContextFromContext(w3c().Extract(context.Background(), c))
		if !l.SpanContext.Equal(sc) {
			t.Errorf("link leads to %v, want %v", l.SpanContext, sc)
		}
		if err := tracer.Process(context.Background(), arrived(h), ack); err != nil {
			t.Error(err)
		}
		before := len(h)
		_, send := tracer.StartSend(context.Background(), &nats.Msg{Subject: "a", Header: h})
		send.End(nil, nil)
		// What was sent on must mean the same to the next reader.
		if got := tracer.Link(send.Msg.Header); !got.SpanContext.Equal(sc) {
			t.Errorf("after sending on the link leads to %v, want %v", got.SpanContext, sc)
		}
		if len(h) != before {
			t.Error("the header was changed")
		}
		c.Set(k1, v1)
	})
}
