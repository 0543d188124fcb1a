package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// The reason of an outage names a stream that is missing, whichever request failed. The
// error does not say that NATS is unavailable then.
func TestOutageOfMissingStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.JetStream().DeleteStream(b.ctx, stream.OrdersStream); err != nil {
		t.Fatal(err)
	}
	id := event.NewOrderID()
	for name, request := range map[string]func(context.Context) error{
		"publish": func(ctx context.Context) error {
			_, err := b.PublishOnce(ctx, created(id), stream.First(event.OrderCreated, id))
			return err
		},
		"read":   func(ctx context.Context) error { _, err := b.OrderEvents(ctx, id, 0); return err },
		"extent": func(ctx context.Context) error { _, err := b.Extent(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(b.ctx, 100*time.Millisecond)
		err := request(ctx)
		cancel()
		if !errors.Is(err, stream.ErrUnavailable) {
			t.Fatalf("%s: got %v, want ErrUnavailable", name, err)
		}
		if got, want := b.Outage(ctx, err), "stream ORDERS is missing: run `ordertrail provision`"; got != want {
			t.Errorf("%s: the outage is %q, want %q", name, got, want)
		}
		if name == "extent" && err.Error() != "ask for the extent of ORDERS: stream ORDERS is missing: run `ordertrail provision`" {
			t.Errorf("the error is %q", err)
		}
	}
}

// The text of an error has the client library's prefix once at most.
func TestPlainErrors(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.MustCreate(t)
	free := full(t, b)
	defer free()
	ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer cancel()
	id := event.NewOrderID()
	_, err := b.PublishOnce(ctx, created(id), stream.First(event.OrderCreated, id))
	if err == nil || strings.Contains(err.Error(), "nats: ") || !strings.Contains(err.Error(), "NATS is unavailable: API error: ") {
		t.Errorf("got %q", err)
	}
	if got := b.Outage(ctx, err); !strings.Contains(got, "is full") {
		t.Errorf("the outage is %q", got)
	}
	kv, err := b.JetStream().KeyValue(b.ctx, stream.LeasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = kv.Update(b.ctx, "key", nil, 7)
	if plain := stream.Plain(err); err == nil || strings.Contains(plain.Error(), "nats: nats: ") || !strings.HasPrefix(plain.Error(), "nats: ") || !errors.Is(plain, err) {
		t.Errorf("%q becomes %q", err, plain)
	}
}

// The end of the caller's time does not hide why the attempts before failed.
func TestCauseOfOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		attempts := 0
		_, err := stream.Ask(ctx, func(ctx context.Context) (int, error) {
			if attempts++; attempts == 1 {
				return 0, nats.ErrNoResponders
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if !errors.Is(err, stream.ErrUnavailable) || !errors.Is(err, nats.ErrNoResponders) || attempts != 2 {
			t.Errorf("after %d attempts: %v", attempts, err)
		}
	})
}
