package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// A filled store holds orders like real ones: ordertrail starts on it, knows how each
// ended, and has nothing left to do.
func TestFill(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	recorded, err := record(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{len(recorded), 2 * len(recorded)} { // the second adds the rest
		if err := fill(ctx, dir, recorded, n); err != nil {
			t.Fatal(err)
		}
	}
	server, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sys, err := app.Start(ctx, app.Config{Connect: server.Connect})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sys.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	s, err := sys.Client.JetStream().Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.Info(ctx, jetstream.WithSubjectFilter(event.OrderCreated.Every()))
	if err != nil {
		t.Fatal(err)
	}
	shop, ended := demo.Shop{URL: sys.URL, Client: http.DefaultClient}, map[string]int{}
	events := uint64(0)
	for subject := range stored.State.Subjects {
		order, err := shop.Get(ctx, strings.TrimPrefix(subject, string(event.OrderCreated)+"."))
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(demo.Scenarios(), func(sc demo.Scenario) bool { return sc.Want.Check(order) == nil }); i < 0 {
			t.Errorf("order %s ended as no scenario does: %+v", order.ID, order)
		}
		ended[order.State+" "+order.Reason]++
		events += uint64(len(order.Events))
	}
	want := map[string]int{}
	for _, sc := range demo.Scenarios() {
		want[sc.Want.State+" "+sc.Want.Reason] += 2
	}
	for end, n := range want {
		if ended[end] != n {
			t.Errorf("%d orders ended as %s, want %d", ended[end], end, n)
		}
	}
	// Every consumer is behind the orders of the store.
	for _, d := range app.Durables() {
		if d.Stream != stream.OrdersStream {
			continue
		}
		c, err := s.Consumer(ctx, d.Name)
		if err != nil {
			t.Fatal(err)
		}
		if floor := c.CachedInfo().AckFloor.Stream; floor < events {
			t.Errorf("%s has %d of %d messages before it", d.Name, floor, events)
		}
	}
	if _, err := demo.Play(ctx, shop, demo.Scenarios()[0]); err != nil {
		t.Fatal(err)
	}
}
