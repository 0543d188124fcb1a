package systemtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/test/systemtest"
)

type client struct {
	*nats.Conn
	js jetstream.JetStream
}

func MustNetwork(t *testing.T, connect func(...nats.Option) (*nats.Conn, error)) *systemtest.Network {
	t.Helper()
	n := systemtest.NewNetwork(connect)
	t.Cleanup(n.Close)
	return n
}

// MustConnect opens a client's connection as services do, but for the time it
// takes to come back.
func MustConnect(t *testing.T, n *systemtest.Network, service string, opts ...nats.Option) client {
	t.Helper()
	nc, err := n.Connect(append(opts, nats.Name("ordertrail "+service), nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0), nats.ErrorHandler(ignore))...)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return client{nc, js}
}

// ignore is told of writes that a cut made fail.
func ignore(*nats.Conn, *nats.Subscription, error) {}

// MustStream makes the stream S on the subjects s.*.
func MustStream(t *testing.T, c client, replicas int) jetstream.Stream {
	t.Helper()
	s, err := c.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: replicas, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// MustPublish stores a message, once, however often that must be tried.
func MustPublish(t *testing.T, c client, subject string) {
	t.Helper()
	id := nats.NewInbox()
	systemtest.Until(t, "a message is acknowledged", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.js.Publish(ctx, subject, nil, jetstream.WithMsgID(id))
		return err == nil
	})
}

// Subjects reads the stream, from any of its replicas.
func Subjects(t *testing.T, c client) (subjects []string) {
	t.Helper()
	systemtest.Until(t, "the stream is read", func() bool {
		subjects = nil
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			m, err := c.js.Conn().RequestMsgWithContext(ctx, &nats.Msg{
				Subject: "$JS.API.DIRECT.GET.S", Data: fmt.Appendf(nil, `{"seq":%d}`, len(subjects)+1),
			})
			cancel()
			switch {
			case err != nil:
				return false
			case m.Header.Get("Status") == "404": // beyond the last
				return true
			}
			subjects = append(subjects, m.Header.Get("Nats-Subject"))
		}
	})
	return subjects
}

// Sequences consumes until the test ends; what it returns tells the sequences of
// the messages up to then.
func Sequences(t *testing.T, consumer jetstream.Consumer) func() []uint64 {
	t.Helper()
	messages, err := consumer.Messages(jetstream.PullHeartbeat(500*time.Millisecond), jetstream.PullExpiry(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := messages.Next()
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return
			}
			if err != nil {
				continue // the server is away
			}
			if meta, err := m.Metadata(); err == nil {
				mu.Lock()
				got = append(got, meta.Sequence.Stream)
				mu.Unlock()
			}
			_ = m.Ack() // an ordered consumer has none
		}
	}()
	t.Cleanup(func() { messages.Stop(); <-done })
	return func() []uint64 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}
