package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// MustCreate publishes an order, and returns the event's sequence.
func (b bench) MustCreate(t *testing.T) uint64 {
	t.Helper()
	id := event.NewOrderID()
	return b.MustPublish(t, created(id), stream.First(event.OrderCreated, id)).Sequence
}

// storeControl stores a message that the client library takes for the server's.
func (b bench) storeControl(t *testing.T, typ event.Type, status string) {
	t.Helper()
	if _, err := b.JetStream().PublishMsg(b.ctx, &nats.Msg{
		Subject: typ.Subject(event.NewOrderID()), Header: nats.Header{"Status": {status}},
	}); err != nil {
		t.Error(err)
	}
}

// After a reconnect, no message is applied while an earlier one still is, and none
// twice: a fold depends on it.
func TestFollowAcrossReconnect(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const n = 20
	for range n {
		id := event.NewOrderID()
		b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var busy atomic.Int32
	var got []uint64
	err := b.Follow(ctx, []string{"orders.*.*"}, stream.Position{}, func(m jetstream.Msg) error {
		if busy.Add(1) > 1 {
			return errors.New("two at a time")
		}
		defer busy.Add(-1)
		e, err := stream.EventOf(m)
		if err != nil {
			return err
		}
		if got = append(got, e.Sequence); len(got) == 3 {
			before := b.conn.Stats().Reconnects
			if err := b.conn.ForceReconnect(); err != nil {
				return err
			}
			systemtest.Until(t, "the connection is back", func() bool { return b.conn.Stats().Reconnects > before && b.conn.IsConnected() })
			<-time.After(300 * time.Millisecond) // room for the new subscription to deliver
		}
		if len(got) == n {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for i, sequence := range got {
		if sequence != uint64(i+1) {
			t.Fatalf("applied %v, want 1 to %d in order", got, n)
		}
	}
}

func TestFollowEndsWithItsError(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	id := event.NewOrderID()
	b.MustPublish(t, created(id), stream.First(event.OrderCreated, id))
	want := errors.New("enough")
	if err := b.Follow(b.ctx, []string{"orders.*.*"}, stream.Position{}, func(jetstream.Msg) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// The consumer has no filter, because the server takes long to start one with filters in
// a large stream. Messages on other subjects are not applied.
func TestFollowFilters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want := []uint64{b.MustCreate(t)}
	b.storeControl(t, event.PaymentConfirmed, "")
	if _, err := b.JetStream().Publish(b.ctx, "redrive.payments."+event.OrderCreated.Subject(event.NewOrderID()), nil); err != nil {
		t.Fatal(err)
	}
	want = append(want, b.MustCreate(t))
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var got []uint64
	if err := b.Follow(ctx, []string{event.OrderCreated.Every()}, stream.Position{}, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		consumer, err := b.JetStream().Consumer(b.ctx, stream.OrdersStream, meta.Consumer)
		if err != nil {
			return err
		}
		if cfg := consumer.CachedInfo().Config; cfg.FilterSubject != "" || len(cfg.FilterSubjects) > 0 {
			t.Errorf("the consumer has the filters %q %q", cfg.FilterSubject, cfg.FilterSubjects)
		}
		if got = append(got, meta.Sequence.Stream); len(got) == len(want) {
			cancel()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, subject string
		want            bool
	}{
		{"orders.*.*", "orders.created.1", true},
		{"*.*.*", "stock.added.COMPASS", true},
		{"orders.created.*", "orders.created.1", true},
		{"orders.created.*", "orders.cancelled.1", false},
		{"orders.*.*", "orders.created", false},
		{"orders.*.*", "orders.created.1.2", false},
		{"orders.*.*", "payments.confirmed.1", false},
		{"*.*.*", "redrive.payments.orders.created.1", false},
		{"orders.created.*", "", false},
	} {
		if got := stream.Matches(c.filter, c.subject); got != c.want {
			t.Errorf("filter %s, subject %q: %v", c.filter, c.subject, got)
		}
	}
}

// A stored message that the client library takes for the server's does not block a
// fold: it is skipped.
func TestFollowSkipsControlMessages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.CheckAfter(100 * time.Millisecond)
	var want []uint64
	good := func() { want = append(want, b.MustCreate(t)) }
	good()
	b.storeControl(t, event.OrderCreated, "409")
	b.storeControl(t, event.OrderCreated, "100")
	good()
	b.storeControl(t, event.OrderCreated, "404")
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var got []uint64
	if err := b.Follow(ctx, []string{"orders.*.*", "payments.*.*"}, stream.Position{}, func(m jetstream.Msg) error {
		e, err := stream.EventOf(m)
		if err != nil {
			return err
		}
		got = append(got, e.Sequence)
		switch len(got) {
		case 2:
			good() // while the last control message blocks
		case 3:
			cancel()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}

// answerDirectGets answers direct gets in place of the server. It calls before first;
// if that returns true, the answer is "not found", as from a replica that lags.
func answerDirectGets(t *testing.T, b bench, before func() (nothing bool)) {
	t.Helper()
	s, err := b.JetStream().Stream(b.ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.AllowDirect = false // so that the server does not answer
	if s, err = b.JetStream().UpdateStream(b.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	_, conn := MustClient(t, b.server)
	if _, err := conn.Subscribe("$JS.API.DIRECT.GET."+stream.OrdersStream, func(request *nats.Msg) {
		var asked struct {
			Seq    uint64 `json:"seq"`
			Filter string `json:"next_by_subj"`
		}
		if err := json.Unmarshal(request.Data, &asked); err != nil {
			t.Errorf("asked %q: %v", request.Data, err)
			return
		}
		answer := &nats.Msg{Subject: request.Reply, Header: nats.Header{"Status": {"404"}}}
		if asked.Filter == "" || !before() {
			var opts []jetstream.GetMsgOpt
			if asked.Filter != "" {
				opts = append(opts, jetstream.WithGetMsgSubject(asked.Filter))
			}
			if m, err := s.GetMsg(b.ctx, asked.Seq, opts...); err == nil {
				answer.Header, answer.Data = m.Header, m.Data
				answer.Header.Add(jetstream.SubjectHeader, m.Subject)
				answer.Header.Add(jetstream.SequenceHeader, strconv.FormatUint(m.Sequence, 10))
				answer.Header.Add(jetstream.TimeStampHeaer, m.Time.Format(time.RFC3339Nano))
			}
		}
		if err := conn.PublishMsg(answer); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// While a follower checks what blocks it, two messages come, a good one and behind it a
// control message, and a replica that has neither answers. The good one is not skipped
// with the control message.
func TestFollowSkipsNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.CheckAfter(100 * time.Millisecond)
	var want []uint64
	good := func() { want = append(want, b.MustCreate(t)) }
	good()
	var once sync.Once
	looked := make(chan struct{})
	answerDirectGets(t, b, func() (nothing bool) {
		once.Do(func() {
			nothing = true
			good()
			b.storeControl(t, event.PaymentConfirmed, "100")
			good()
			close(looked)
		})
		return nothing
	})
	ctx, cancel := context.WithTimeout(b.ctx, patience/2)
	defer cancel()
	var got []uint64
	if err := b.Follow(ctx, []string{"orders.*.*", "payments.*.*"}, stream.Position{}, func(m jetstream.Msg) error {
		e, err := stream.EventOf(m)
		if err != nil {
			return err
		}
		if got = append(got, e.Sequence); e.Sequence == 4 {
			cancel()
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	select {
	case <-looked:
	case <-time.After(patience / 2):
		t.Fatal("the follower did not check")
	}
	if !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}
