package system_test

import (
	"context"
	"testing"
	"time"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// replacements are the ways in which the stream stops being the one that was read.
var replacements = map[string]struct {
	// replace is called with a function that restores a part of a store that is older
	// than what the services have read.
	replace func(t *testing.T, sys *systemtest.System, store *systemtest.Store, restore func(path string))
	keeps   bool // the orders from before the backup
}{
	"Deleted": {replace: func(t *testing.T, sys *systemtest.System, _ *systemtest.Store, _ func(string)) {
		ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
		defer cancel()
		if err := sys.JetStream().DeleteStream(ctx, stream.OrdersStream); err != nil {
			t.Fatal(err)
		}
	}},
	"Wiped": {replace: func(t *testing.T, _ *systemtest.System, store *systemtest.Store, _ func(string)) {
		store.Wipe(t)
	}},
	"Restored": {keeps: true, replace: func(_ *testing.T, _ *systemtest.System, _ *systemtest.Store, restore func(string)) {
		restore(".")
	}},
	"TailLost": {keeps: true, replace: func(_ *testing.T, _ *systemtest.System, _ *systemtest.Store, restore func(string)) {
		restore(systemtest.StreamPath(stream.OrdersStream))
	}},
}

// After the stream was replaced, every fold starts over, and the shop works as before:
// each new order has the end that it should have, and analytics counts what is in the
// stream.
func TestReplacedStream(t *testing.T) {
	t.Parallel()
	for name, r := range replacements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := systemtest.NewStore(t)
			sys := systemtest.StartOn(t, store.Connect, systemtest.Deadline(10*time.Second), quickRedelivery)
			kept := playAll(t, sys, 4)
			restore := store.Backup(t)
			playAll(t, sys, 20)
			systemtest.Settle(t, sys.JetStream(), 24)

			r.replace(t, sys, store, restore)
			if !r.keeps {
				kept = 0
			}
			provision(t, sys)
			ready(t, sys)
			placed := playAll(t, sys, 12)
			ledger := systemtest.Settle(t, sys.JetStream(), kept+placed)
			ledger.Audit(t, nil)
			if n := len(ledger.Orders); n != kept+placed {
				t.Errorf("the stream has %d orders, want %d", n, kept+placed)
			}
			if n := ledger.Count(event.FulfillmentShipped); n != kept+placed {
				t.Errorf("%d of %d orders were shipped", n, kept+placed)
			}
			ledger.AuditAnalytics(t, sys.URL)
			if n := len(recent(t, sys)); n != kept+placed {
				t.Errorf("the list has %d orders, want %d", n, kept+placed)
			}
		})
	}
}

// playAll places n orders, waits until they are shipped, and returns n.
func playAll(t *testing.T, sys *systemtest.System, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	sc := systemtest.Scenario(t, "happy")
	for range n {
		if _, err := demo.Play(ctx, sys.Shop, sc); err != nil {
			t.Fatalf("play %s: %v", sc.Name, err)
		}
	}
	return n
}

func provision(t *testing.T, sys *systemtest.System) {
	t.Helper()
	systemtest.Until(t, "the streams are provisioned", func() bool {
		// A request that is lost with a connection gets no answer.
		ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience/10)
		defer cancel()
		err := stream.Provision(ctx, sys.JetStream(), stream.Topology{AckWait: time.Second, Durables: app.Durables()})
		return err == nil
	})
}

// ready waits until every service is.
func ready(t *testing.T, sys *systemtest.System) {
	t.Helper()
	for _, def := range app.Services(nil, nil) {
		var err error
		systemtest.Until(t, def.Name+" is ready", func() bool {
			err = sys.Latest(def.Name).Ready(context.Background())
			return err == nil
		})
	}
}

// recent returns the shop's list of recent orders.
func recent(t *testing.T, sys *systemtest.System) []struct{ ID string } {
	t.Helper()
	var list struct{ Orders []struct{ ID string } }
	getJSON(t, sys.URL+"/orders", &list)
	return list.Orders
}
