package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
)

// recording is the events of one order, as a stream holds them.
type recording struct {
	id     string
	events []*jetstream.RawStreamMsg
}

// record plays each scenario once and returns the events of its order.
func record(ctx context.Context) ([]recording, error) {
	server, err := embedded.Start("")
	if err != nil {
		return nil, err
	}
	defer server.Close()
	sys, err := app.Start(ctx, app.Config{Connect: server.Connect, Settings: service.Settings{OrderDeadline: demo.OrderDeadline}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = sys.Stop(ctx) }()
	shop := demo.Shop{URL: sys.URL, Client: http.DefaultClient}
	var all []recording
	for _, sc := range demo.Scenarios() {
		order, err := demo.Play(ctx, shop, sc)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", sc.Name, err)
		}
		r := recording{id: order.ID}
		orders, err := sys.Client.JetStream().Stream(ctx, stream.OrdersStream)
		if err != nil {
			return nil, err
		}
		for _, e := range order.Events {
			m, err := orders.GetMsg(ctx, e.Sequence)
			if err != nil {
				return nil, fmt.Errorf("read event %d: %w", e.Sequence, err)
			}
			r.events = append(r.events, m)
		}
		all = append(all, r)
	}
	return all, nil
}

// inFlight bounds the publishes that wait for their acknowledgement.
const inFlight = 4096

// fill adds copies of the recorded orders to the store in dir, until it holds n. The
// copies have new order and trace ids. All durables are moved behind them, as if every
// event had been handled.
func fill(ctx context.Context, dir string, recorded []recording, n int) error {
	server, err := embedded.Start(dir)
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncMaxPending(2*inFlight), // the loop below waits, not the client
		jetstream.WithDefaultTimeout(time.Minute))
	if err != nil {
		return err
	}
	if err := stream.Provision(ctx, js, stream.Topology{Durables: app.Durables()}); err != nil {
		return err
	}
	orders, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		return err
	}
	// Not the stream's info with all subjects, which may take longer than a request.
	created, err := orders.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{event.OrderCreated.Every()}, HeadersOnly: true,
	})
	if err != nil {
		return err
	}
	stored, err := created.Info(ctx)
	if err != nil {
		return err
	}
	var acks []jetstream.PubAckFuture
	check := func(keep int) error {
		for ; len(acks) > keep; acks = acks[1:] {
			select {
			case <-acks[0].Ok():
			case err := <-acks[0].Err():
				return fmt.Errorf("fill: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	for i := int(stored.NumPending); i < n; i++ {
		for _, m := range recorded[i%len(recorded)].copy() {
			ack, err := js.PublishMsgAsync(m)
			if err != nil {
				return fmt.Errorf("fill: %w", err)
			}
			acks = append(acks, ack)
		}
		if err := check(inFlight); err != nil {
			return err
		}
	}
	if err := check(0); err != nil {
		return err
	}
	info, err := orders.Info(ctx)
	if err != nil {
		return err
	}
	for _, d := range app.Durables() {
		if d.Stream != stream.OrdersStream {
			continue
		}
		if _, err := js.ResetConsumerToSequence(ctx, d.Stream, d.Name, info.State.LastSeq+1); err != nil {
			return fmt.Errorf("move consumer %s: %w", d.Name, err)
		}
	}
	return nil
}

// traceparentLen is the length of a traceparent of version 00.
const traceparentLen = 55

// copy returns the messages of a new order with the same course.
func (r recording) copy() (messages []*nats.Msg) {
	id := event.NewOrderID()
	traces := map[string]string{} // new trace ids, by recorded ones
	for _, e := range r.events {
		m := &nats.Msg{Subject: strings.ReplaceAll(e.Subject, r.id, id), Header: nats.Header{},
			Data: bytes.ReplaceAll(e.Data, []byte(r.id), []byte(id))}
		for name, values := range e.Header {
			// Those for the server have had their effect. Ids of messages are remembered
			// for an hour only, and these orders are older.
			if strings.HasPrefix(name, "Nats-") {
				continue
			}
			for _, v := range values {
				m.Header.Add(name, strings.ReplaceAll(v, r.id, id))
			}
		}
		if parent := m.Header["traceparent"]; len(parent) == 1 && len(parent[0]) == traceparentLen {
			old := parent[0][3:35]
			if traces[old] == "" {
				traces[old] = newTraceID()
			}
			parent[0] = strings.Replace(parent[0], old, traces[old], 1)
		}
		messages = append(messages, m)
	}
	return messages
}

func newTraceID() string {
	var id trace.TraceID
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return id.String()
}
