package test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.org/ordertrail/pkg/tracing"
)

// A shutdown in the middle of a batch and of asynchronous sends waits for them,
// then flushes; no span is left open and no goroutine is left over.
func TestPitfall14Shutdown(t *testing.T) {
	before := runtime.NumGoroutine()
	tap := newTap(sdktrace.AlwaysSample())
	flushed := &flushes{ended: func() int { return len(tap.spans.Ended()) }}
	tap.provider.RegisterSpanProcessor(flushed)

	entered, leave := make(chan struct{}), make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{arrived(nil), arrived(nil)}, func(_ context.Context, msgs []jetstream.Msg) error {
			close(entered)
			<-leave
			return msgs[0].Ack()
		})
	})
	<-entered
	_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))

	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err := tap.Shutdown(bounded)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 handlers and publishes") {
		t.Errorf("got %v", err)
	}
	if flushed.n.Load() != 0 {
		t.Error("flushed although work was under way")
	}

	done, waiting := make(chan error, 2), watched{context.Background(), make(chan struct{}, 9)}
	for range 2 { // both are told
		go func() { done <- tap.Shutdown(waiting) }()
	}
	<-waiting.asked
	<-waiting.asked
	close(leave)
	busy.Wait()
	select {
	case err := <-done:
		t.Errorf("Shutdown returned %v before the last send ended", err)
	default:
	}
	send.End(nil, nil)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if started, ended := len(tap.spans.Started()), len(tap.spans.Ended()); started != 3 || ended != 3 {
		t.Errorf("%d spans started, %d ended, want 3", started, ended)
	}
	if flushed.n.Load() == 0 || flushed.saw.Load() != 3 {
		t.Errorf("flushed %d times, with %d spans", flushed.n.Load(), flushed.saw.Load())
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// watched is a context that reports when the first caller waits for its end.
type watched struct {
	context.Context
	asked chan struct{}
}

func (w watched) Done() <-chan struct{} {
	select {
	case w.asked <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// flushes counts them, and what had ended by the first.
type flushes struct {
	ended  func() int
	n, saw atomic.Int64
}

func (*flushes) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (*flushes) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (*flushes) Shutdown(context.Context) error                  { return nil }
func (f *flushes) ForceFlush(context.Context) error {
	if f.n.Add(1) == 1 {
		f.saw.Store(int64(f.ended()))
	}
	return nil
}

// Work that ends in no ordinary way is over too.
func TestShutdownAfterEveryEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(tap tracetap)
	}{
		{"Nothing", func(tracetap) {}},
		{"Process", func(tap tracetap) { _ = tap.Process(context.Background(), arrived(nil), ack) }},
		{"Unsettled", func(tap tracetap) { _ = tap.Process(context.Background(), arrived(nil), nothing) }},
		{"Error", func(tap tracetap) {
			_ = tap.Process(context.Background(), arrived(nil), func(context.Context, jetstream.Msg) error { return errors.New("x") })
		}},
		{"Panic", func(tap tracetap) {
			defer func() { _ = recover() }()
			_ = tap.Process(context.Background(), arrived(nil), func(context.Context, jetstream.Msg) error { panic(1) })
		}},
		{"Goexit", func(tap tracetap) {
			_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{arrived(nil)}, func(context.Context, []jetstream.Msg) error {
				runtime.Goexit()
				return nil
			})
		}},
		{"EmptyBatch", func(tap tracetap) {
			_ = tap.ProcessBatch(context.Background(), nil, func(context.Context, []jetstream.Msg) error { return nil })
		}},
		{"DoubleEnd", func(tap tracetap) {
			_, send := tap.StartSend(context.Background(), nats.NewMsg("orders.created.1"))
			send.End(nil, nil)
			send.End(nil, errors.New("late"))
		}},
		{"PanicInPublish", func(tap tracetap) {
			defer func() { _ = recover() }()
			_, _ = tap.Publish(context.Background(), publisherFunc(func() (*jetstream.PubAck, error) { panic(1) }), nats.NewMsg("orders.created.1"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, opts := range [][]tracing.Option{nil, {tracing.WithTracerProvider(noProvider)}} {
				tap := newTap(sdktrace.AlwaysSample(), opts...)
				var worker sync.WaitGroup
				worker.Go(func() { tt.do(tap) })
				worker.Wait()
				// There is nothing to wait for.
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := tap.Shutdown(ctx); err != nil {
					t.Errorf("something is left: %v", err)
				}
			}
		})
	}
}

// A function of the caller's that panics leaves nothing that Shutdown would wait
// for.
func TestShutdownAfterPanicsOfTheCaller(t *testing.T) {
	msg := arrived(nats.Header{"traceparent": {valid}})
	link := tracing.WithLinkAttributes(func(jetstream.Msg) []attribute.KeyValue { panic("link") })
	broken := tracing.WithDestinationTemplate(func(string) string { panic("template") })
	for _, tt := range []struct {
		name string
		opts []tracing.Option
		do   func(tracetap)
	}{
		{"ProcessTemplate", []tracing.Option{broken}, func(tap tracetap) { _ = tap.Process(context.Background(), msg, nothing) }},
		{"ProcessLink", nil, func(tap tracetap) { _ = tap.Process(context.Background(), msg, nothing, link) }},
		{"BatchTemplate", []tracing.Option{broken}, func(tap tracetap) {
			_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{msg}, func(context.Context, []jetstream.Msg) error { return nil })
		}},
		{"BatchLink", nil, func(tap tracetap) {
			_ = tap.ProcessBatch(context.Background(), []jetstream.Msg{msg}, func(context.Context, []jetstream.Msg) error { return nil }, link)
		}},
		{"SendTemplate", []tracing.Option{broken}, func(tap tracetap) { tap.StartSend(context.Background(), nats.NewMsg("orders.created.1")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap := newTap(sdktrace.AlwaysSample(), tt.opts...)
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was swallowed")
					}
				}()
				tt.do(tap)
			}()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := tap.Shutdown(ctx); err != nil {
				t.Errorf("something is left: %v", err)
			}
			if started, ended := len(tap.spans.Started()), len(tap.spans.Ended()); started != ended {
				t.Errorf("%d spans started, %d ended", started, ended)
			}
		})
	}
}

// meters is a provider that knows whether it was flushed.
type meters struct {
	metric.MeterProvider
	flushed *atomic.Int64
	err     error
}

func (m meters) ForceFlush(context.Context) error { m.flushed.Add(1); return m.err }

// Shutdown flushes what was measured too, and returns the error of that.
func TestShutdownFlushesMetrics(t *testing.T) {
	m := meters{newMetrics().provider, new(atomic.Int64), errors.New("collector away")}
	tap := newTap(sdktrace.AlwaysSample(), tracing.WithMeterProvider(m))
	_ = tap.Process(context.Background(), arrived(nil), ack)
	if err := tap.Shutdown(context.Background()); !errors.Is(err, m.err) || m.flushed.Load() != 1 {
		t.Errorf("flushed %d times, error %v", m.flushed.Load(), err)
	}
}
