package receiver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/receiver"
)

// forwarder starts a Forwarder to a backend. The function that it returns ends it, and
// returns what it has logged.
func forwarder(t *testing.T, backend http.HandlerFunc, finish time.Duration) (*receiver.Forwarder, func() string) {
	t.Helper()
	server := httptest.NewServer(backend)
	t.Cleanup(server.Close)
	var log bytes.Buffer
	f := must[*receiver.Forwarder](t)(receiver.NewForwarder(server.URL+"/otlp", map[string]string{"Api-Key": "secret"}, slog.New(slog.NewTextHandler(&log, nil))))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { f.Run(ctx, finish); close(done) }()
	end := func() string { cancel(); <-done; return log.String() }
	t.Cleanup(func() { end() })
	return f, end
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A request that the backend does not take now is sent again, as it was; one that it
// refuses is dropped, counted and logged.
func TestForwardRetries(t *testing.T) {
	var tries atomic.Int64
	f, end := forwarder(t, func(w http.ResponseWriter, r *http.Request) {
		plain, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(plain)
		if err != nil || r.Header.Get("Api-Key") != "secret" {
			t.Error(err, r.Header)
		}
		switch got := r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body); {
		case got == "/otlp/v1/logs application/json refused":
			w.WriteHeader(http.StatusBadRequest)
		case got != "/otlp/v1/traces application/x-protobuf good":
			t.Errorf("the backend gets %s", got)
		case tries.Add(1) < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, time.Second)
	f.Forward(receiver.Request{Signal: receiver.Traces, Body: []byte("good")})
	f.Forward(receiver.Request{Signal: receiver.Logs, JSON: true, Body: []byte("refused")})
	wait(t, "one is sent and one is dropped", func() bool { c := f.Counts(); return c.Sent == 1 && c.Dropped == 1 })
	if log := end(); tries.Load() != 3 || !strings.Contains(log, "dropped=1 sent=1") {
		t.Errorf("%d tries; %s", tries.Load(), log)
	}
}

// A backend that does not answer delays nobody: what exceeds the queue is dropped and
// counted, and the end does not wait for it.
func TestForwardIsBounded(t *testing.T) {
	block := make(chan bool)
	f, end := forwarder(t, func(http.ResponseWriter, *http.Request) { <-block }, 10*time.Millisecond)
	defer close(block)
	const mib = 1 << 20
	for range 100 {
		f.Forward(receiver.Request{Signal: receiver.Traces, Body: make([]byte, mib)})
	}
	if c := f.Counts(); c.Dropped != 100-32 || c.Sent != 0 {
		t.Errorf("%+v, want 32 MiB in the queue", c)
	}
	if log := end(); !strings.Contains(log, "dropped=100") {
		t.Errorf("%+v; %s", f.Counts(), log)
	}
}

// A backend of gRPC gets all signals that arrived as JSON, as protobuf. JSON that is not
// OTLP, or too large to be converted, is dropped and the reason logged.
func TestForwardJSONToGRPC(t *testing.T) {
	got := make(chan receiver.Request, 3)
	addr := serve(t, &receiver.Receiver{Keep: func(...trail.Span) int { return 0 }, Forward: func(r receiver.Request) { got <- r }})
	f := must[*receiver.Forwarder](t)(receiver.NewForwarder("grpc://"+addr, nil, slog.New(slog.DiscardHandler)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { f.Run(ctx, time.Second); close(done) }()
	defer func() { cancel(); <-done }()
	for signal, text := range map[string]string{
		receiver.Traces:  `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"mine"}]}]}]}`,
		receiver.Metrics: `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"mine"}]}]}]}`,
		receiver.Logs:    `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"mine"}]}]}]}`,
	} {
		before := f.Counts()
		f.Forward(receiver.Request{Signal: signal, JSON: true, Body: []byte(text)})
		wait(t, signal+" are sent or dropped", func() bool { c := f.Counts(); return c.Sent+c.Dropped > before.Sent+before.Dropped })
		select {
		case r := <-got:
			if r.Signal != signal || r.JSON || !bytes.Contains(r.Body, []byte("\x04mine")) {
				t.Errorf("%s arrive as %+v", signal, r)
			}
		default:
			t.Errorf("%s are dropped", signal)
		}
	}
	before := f.Counts()
	for _, text := range []string{`nonsense`, `{"resourceLogs":[null]}`, strings.Repeat(`{"resourceLogs":[`, 1000), `{"resourceLogs":[` + strings.Repeat("{},", 1<<20) + "{}]}"} {
		f.Forward(receiver.Request{Signal: receiver.Logs, JSON: true, Body: []byte(text)})
	}
	wait(t, "the others are dropped", func() bool { return f.Counts().Dropped == before.Dropped+4 })
}

// The queue is bounded by the memory that requests hold, which may be twice their size.
func TestForwardCountsMemory(t *testing.T) {
	f := must[*receiver.Forwarder](t)(receiver.NewForwarder("http://127.0.0.1:1", nil, slog.New(slog.DiscardHandler)))
	const mib = 1 << 20
	for range 20 {
		f.Forward(receiver.Request{Signal: receiver.Traces, Body: make([]byte, mib, 2*mib)})
	}
	if c := f.Counts(); c.Queued != 16 || c.Dropped != 4 {
		t.Errorf("%+v, want 32 MiB in the queue", c)
	}
}

func TestForwardTo(t *testing.T) {
	for to, want := range map[string]string{"http://h:4318": "", "https://h": "", "grpc://h:1": "", "grpcs://h:1": "", "http://h:4317": "", "ftp://h": "unknown scheme", "h:4317": "not a URL", "": "not a URL", "::": "not a URL"} {
		if _, err := receiver.NewForwarder(to, nil, slog.Default()); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
	}
}
