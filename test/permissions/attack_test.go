package permissions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/stream"
)

// No user can delete, purge, change or take over a stream or a consumer.
func TestNothingIsDestroyed(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	sys, _ := run(t, s)
	if _, err := demo.Play(context.Background(), sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(s.connect(t, spy))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	state := func() string {
		var b strings.Builder
		for _, name := range []string{stream.OrdersStream, stream.DeadlinesStream, stream.DeadLettersStream, "KV_LEASES", "KV_ANALYTICS"} {
			in, err := js.Stream(ctx, name)
			if err != nil {
				return err.Error()
			}
			config, err := json.Marshal(in.CachedInfo().Config)
			if err != nil {
				return err.Error()
			}
			fmt.Fprintf(&b, "%s %s\n", name, config)
			if !strings.HasPrefix(name, "KV_") {
				fmt.Fprintf(&b, "  from %d, %d deleted\n", in.CachedInfo().State.FirstSeq, in.CachedInfo().State.NumDeleted)
			}
		}
		for _, d := range app.Durables() {
			c, err := js.Consumer(ctx, d.Stream, d.Name)
			if err != nil {
				return err.Error()
			}
			config, err := json.Marshal(c.CachedInfo().Config)
			if err != nil {
				return err.Error()
			}
			fmt.Fprintf(&b, "%s %s\n", d.Name, config)
		}
		return b.String()
	}
	before := state()
	for _, user := range users {
		if user == admin {
			continue // may change what it makes, and not delete it: see below
		}
		nc := s.connect(t, user)
		for _, name := range []string{stream.OrdersStream, stream.DeadlinesStream, stream.DeadLettersStream, "KV_LEASES", "KV_ANALYTICS"} {
			attack(t, nc, "$JS.API.STREAM.UPDATE."+name, `{"name":"`+name+`","subjects":["x"],"max_msgs":1,"storage":"file"}`)
		}
		for _, d := range app.Durables() {
			durable := `{"stream_name":"` + d.Stream + `","config":{"durable_name":"` + d.Name + `","name":"` + d.Name + `","ack_policy":"explicit","filter_subject":"x"},"action":""}`
			attack(t, nc, "$JS.API.CONSUMER.CREATE."+d.Stream+"."+d.Name, durable)
			attack(t, nc, "$JS.API.CONSUMER.DURABLE.CREATE."+d.Stream+"."+d.Name, durable)
		}
	}
	for _, user := range users {
		nc := s.connect(t, user)
		for _, name := range []string{stream.OrdersStream, stream.DeadlinesStream, "KV_LEASES", "KV_ANALYTICS"} {
			attack(t, nc, "$JS.API.STREAM.DELETE."+name, "")
			attack(t, nc, "$JS.API.STREAM.PURGE."+name, "")
			attack(t, nc, "$JS.API.STREAM.MSG.DELETE."+name, `{"seq":1}`)
		}
		for _, d := range app.Durables() {
			attack(t, nc, "$JS.API.CONSUMER.DELETE."+d.Stream+"."+d.Name, "")
			attack(t, nc, "$JS.API.CONSUMER.PAUSE."+d.Stream+"."+d.Name, `{"pause_until":"2100-01-01T00:00:00Z"}`)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// Requests are answered in turn: with the answer to one of ours, all are done.
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func attack(t *testing.T, nc *nats.Conn, subject, body string) {
	t.Helper()
	if err := nc.PublishRequest(subject, nc.NewInbox(), []byte(body)); err != nil {
		t.Fatal(err)
	}
}
