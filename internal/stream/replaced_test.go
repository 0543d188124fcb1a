package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace/noop"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/pkg/tracing"
	"example.org/ordertrail/test/systemtest"
)

// renew deletes ORDERS and provisions it again.
func renew(t *testing.T, b bench) {
	t.Helper()
	if err := b.JetStream().DeleteStream(b.ctx, stream.OrdersStream); err != nil {
		t.Fatal(err)
	}
	if err := stream.Provision(b.ctx, b.JetStream(), stream.Topology{
		AckWait: 500 * time.Millisecond, Durables: []stream.Durable{handledBy(nil)},
	}); err != nil {
		t.Fatal(err)
	}
}

// A dead letter's subject contains a sequence, which repeats in a new stream. The letter
// that has the subject already is not taken for the new one, and neither is lost.
func TestDeadLettersOfTwoStreams(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	consume(t, b.Client, handledBy(func(context.Context, event.Event) error { return stream.Permanent(errHandler) }))
	var want []string
	for i := range 3 {
		if i > 0 {
			renew(t, b)
		}
		id := event.NewOrderID()
		want = append(want, b.MustPublish(t, created(id), stream.First(event.OrderCreated, id)).Subject)
		letters(t, b, i+1)
	}
	var got []string
	for _, l := range letters(t, b, 3) {
		if l.ID != "tester.1" {
			t.Errorf("the id is %s, want tester.1", l.ID)
		}
		got = append(got, l.Subject)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the dead letters are of %q, want %q", got, want)
	}
	// The newest one has the id, until it is sent again.
	for i := range want {
		l, err := b.DeadLetter(b.ctx, "tester.1")
		if err != nil || l.Subject != want[len(want)-1-i] {
			t.Fatalf("dead letter %d is of %s (%v)", i, l.Subject, err)
		}
		if err := b.Redrive(b.ctx, l.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// unsettled is a message whose termination is lost.
type unsettled struct{ jetstream.Msg }

func (unsettled) TermWithReason(string) error { return nil }

// The same delivery is given up twice: that is one dead letter.
func TestDeadLetterOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := newTraced(t, b.server, stream.OnDeliver(func(_ string, m jetstream.Msg) []jetstream.Msg {
		if meta, err := m.Metadata(); err == nil && meta.NumDelivered == 1 {
			return []jetstream.Msg{unsettled{m}}
		}
		return []jetstream.Msg{m}
	}))
	b.MustCreate(t)
	consume(t, c.Client, handledBy(func(context.Context, event.Event) error { return stream.Permanent(errHandler) }))
	letters(t, b, 1) // when nothing is pending, the second delivery is terminated
}

// A handler of an event that is gone does not wait for ever: it would occupy a worker.
func TestConsumeDropsEventsOfALostStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.MustCreate(t)
	var log systemtest.Output
	c, err := stream.New(b.conn, tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider())), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	handling := make(chan bool, 100)
	consume(t, c, handledBy(func(context.Context, event.Event) error {
		handling <- true
		return stream.ErrUnavailable // as a read that waits for the event
	}))
	<-handling
	renew(t, b)
	systemtest.Until(t, "the event is dropped", func() bool { return strings.Contains(log.String(), "dropped a message") })
}

// followUntilReplaced calls replace while a follower has read all events, and returns what Follow
// returned then.
func followUntilReplaced(t *testing.T, b bench, log *systemtest.Output, from func(stream.Extent) stream.Position, replace func()) error {
	t.Helper()
	c, err := stream.New(b.conn, tracing.New(tracing.WithTracerProvider(noop.NewTracerProvider())), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.CheckAfter(100 * time.Millisecond)
	extent, err := c.Extent(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan uint64, 100)
	done := make(chan error, 1)
	go func() {
		done <- c.Follow(b.ctx, []string{"orders.*.*"}, from(extent), func(m jetstream.Msg) error {
			meta, err := m.Metadata()
			read <- meta.Sequence.Stream
			return err
		})
	}()
	systemtest.Until(t, "the follower is ready", func() bool { return c.Ready(b.ctx) == nil })
	if extent.Last > from(extent).Sequence {
		for <-read < extent.Last {
		}
	}
	replace()
	select {
	case err := <-done:
		return err
	case <-b.ctx.Done():
		return errors.New("Follow does not return")
	}
}

// A follower notices that its stream was replaced, also if the new one has as many
// messages, and logs it once.
func TestFollowReplacedStream(t *testing.T) {
	t.Parallel()
	start := stream.Extent.Start
	for name, tt := range map[string]struct {
		from   func(stream.Extent) stream.Position
		stored int // messages in the new stream
	}{
		"Empty":      {start, 0},
		"AsLong":     {start, 3},
		"Longer":     {start, 10},
		"FromTheEnd": {stream.Extent.End, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for range 3 {
				b.MustCreate(t)
			}
			var log systemtest.Output
			err := followUntilReplaced(t, b, &log, tt.from, func() {
				renew(t, b)
				for range tt.stored {
					b.MustCreate(t)
				}
			})
			if !errors.Is(err, stream.ErrReplaced) {
				t.Errorf("Follow returned %v, want ErrReplaced", err)
			}
			if n := strings.Count(log.String(), "the stream is not the one that was read"); n != 1 {
				t.Errorf("it was logged %d times:\n%s", n, log.String())
			}
		})
	}
}

// Verify compares a position with the stream and the message there.
func TestVerify(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.MustCreate(t)
	b.MustCreate(t)
	var at stream.Position
	ctx, cancel := context.WithCancel(b.ctx)
	extent, err := b.Extent(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Follow(ctx, []string{"orders.*.*"}, stream.Position{}, func(m jetstream.Msg) error {
		if at = extent.Start().After(m); at.Sequence == 2 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	second := time.Second
	for name, tt := range map[string]struct {
		change   func(*stream.Position)
		replaced bool
	}{
		"AsRead":         {func(*stream.Position) {}, false},
		"Zero":           {func(p *stream.Position) { *p = stream.Position{} }, false},
		"AnotherStream":  {func(p *stream.Position) { p.Created = p.Created.Add(second) }, true},
		"BehindTheEnd":   {func(p *stream.Position) { p.Sequence++ }, true},
		"AnotherMessage": {func(p *stream.Position) { p.Time = p.Time.Add(1) }, true},
		"UnknownTime":    {func(p *stream.Position) { p.Time = time.Time{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := at
			tt.change(&p)
			if err := b.Verify(b.ctx, p); errors.Is(err, stream.ErrReplaced) != tt.replaced || !tt.replaced && err != nil {
				t.Errorf("Verify(%+v) = %v, replaced: %t", p, err, tt.replaced)
			}
		})
	}
}

// While the stream is missing, reads fail as long as they may, and name it.
func TestReadWithoutStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.JetStream().DeleteStream(b.ctx, stream.OrdersStream); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	_, err := b.OrderEvents(ctx, event.NewOrderID(), 0)
	if !errors.Is(err, stream.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("got %v, want ErrUnavailable because no stream responds", err)
	}
}
