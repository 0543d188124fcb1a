package stream_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"ordertrail/internal/event"
	"ordertrail/internal/stream"
)

// answerDirectGets answers them in the server's place, after what before does, which
// may have one find nothing: as a replica does that lags.
func answerDirectGets(t *testing.T, b bench, before func() (nothing bool)) {
	t.Helper()
	s, err := b.JetStream().Stream(b.ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.AllowDirect = false // or the server answers, too
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
		if !before() {
			if m, err := s.GetMsg(b.ctx, asked.Seq, jetstream.WithGetMsgSubject(asked.Filter)); err == nil {
				answer.Header, answer.Data = m.Header, m.Data
				answer.Header.Add(jetstream.SubjectHeader, m.Subject)
				answer.Header.Add(jetstream.SequenceHeader, strconv.FormatUint(m.Sequence, 10))
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

// While a follower looks what holds it up, messages come: one on a filter that it has
// looked at already, and one that looks like the server's own behind it, on another.
// The first is not passed over with the second.
func TestFollowPassesOverNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var want []uint64
	good := func() {
		id := event.NewOrderID()
		want = append(want, b.MustPublish(t, created(id), stream.First(event.OrderCreated, id)).Sequence)
	}
	good()
	var once sync.Once
	looked := make(chan struct{})
	answerDirectGets(t, b, func() (nothing bool) {
		once.Do(func() {
			nothing = true
			good()
			if _, err := b.JetStream().PublishMsg(b.ctx, &nats.Msg{
				Subject: event.PaymentConfirmed.Subject(event.NewOrderID()), Header: nats.Header{"Status": {"100"}},
			}); err != nil {
				t.Error(err)
			}
			good()
			close(looked)
		})
		return nothing
	})
	ctx, cancel := context.WithTimeout(b.ctx, patience/2)
	defer cancel()
	var got []uint64
	if err := b.Follow(ctx, []string{"orders.*.*", "payments.*.*"}, 1, func(m jetstream.Msg) error {
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
		t.Fatal("nobody looked")
	}
	if !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}
