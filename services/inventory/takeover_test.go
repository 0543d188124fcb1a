package inventory_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/embedded"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/test/systemtest"
)

// writer is a running replica with its log.
type writer struct {
	*service.Runtime
	log systemtest.Output
}

// runWriter runs a replica until the test ends or kill is called, after which it neither
// stores nor publishes anything.
func runWriter(t *testing.T, server *embedded.Server) (w *writer, kill func()) {
	t.Helper()
	w = new(writer)
	rt, err := service.NewRuntime(context.Background(), service.Config{
		Name: inventory.Name, Connect: server.Connect, Log: slog.NewTextHandler(&w.log, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Runtime = rt
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = inventory.New(rt, inventory.SnapshotEvery).Run(ctx) // the end of a killed one is an error
	}()
	kill = func() {
		rt.Stream.JetStream().Conn().Close()
		cancel()
		<-done
	}
	t.Cleanup(func() {
		kill()
		_ = rt.Close(context.Background())
	})
	return w, kill
}

var eventsRead = regexp.MustCompile(`inventory is the active writer.* events_read=(\d+)`)

// tookOver waits until the replica is the active writer, and returns how many events it
// has read for that.
func (w *writer) tookOver(t *testing.T) (read int) {
	t.Helper()
	systemtest.Until(t, "the replica is the active writer", func() bool {
		found := eventsRead.FindStringSubmatch(w.log.String())
		if found == nil {
			return false
		}
		read, _ = strconv.Atoi(found[1])
		return true
	})
	return read
}

// warehouse publishes events of orders, as the other services do.
type warehouse struct {
	*testing.T
	js   jetstream.JetStream
	next int
}

func (w *warehouse) publish(drafts ...event.Draft) {
	w.Helper()
	for batch := range slices.Chunk(drafts, pending) {
		for _, d := range batch {
			m, err := d.Message(time.Now())
			if err != nil {
				w.Fatal(err)
			}
			if _, err := w.js.PublishMsgAsync(m); err != nil {
				w.Fatal(err)
			}
		}
		select {
		case <-w.js.PublishAsyncComplete():
		case <-time.After(systemtest.Patience):
			w.Fatal("the events are not stored")
		}
	}
}

// pending is how many events are published before the first one has to be stored.
const pending = 1000

// concludedOrders publishes n orders with all their events.
func (w *warehouse) concludedOrders(n int) {
	w.Helper()
	var all []event.Draft
	for range n {
		w.next++
		item := inventory.Units("COMPASS", 1)
		all = append(all, inventory.Created(w.next, item), inventory.Moved(event.InventoryReserved, w.next, item), inventory.Concluded(event.FulfillmentShipped, w.next, item))
	}
	w.publish(all...)
}

// order places an order and waits for its outcome.
func (w *warehouse) order(items ...event.Item) event.Type {
	w.Helper()
	w.next++
	w.publish(inventory.Created(w.next, items...))
	in, err := w.js.Stream(context.Background(), stream.OrdersStream)
	if err != nil {
		w.Fatal(err)
	}
	var outcome event.Type
	systemtest.Until(w, "the order is decided", func() bool {
		for _, t := range []event.Type{event.InventoryReserved, event.InventoryRejected} {
			if _, err := in.GetLastMsgForSubject(context.Background(), t.Subject(inventory.ID(w.next))); err == nil {
				outcome = t
			}
		}
		return outcome != ""
	})
	return outcome
}

func newWarehouse(t *testing.T) (*embedded.Server, *warehouse) {
	t.Helper()
	server, err := embedded.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(pending))
	if err != nil {
		t.Fatal(err)
	}
	w := &warehouse{T: t, js: js}
	w.provision()
	return server, w
}

func (w *warehouse) provision() {
	w.Helper()
	if err := stream.Provision(context.Background(), w.js, stream.Topology{LeaseTTL: time.Second}); err != nil {
		w.Fatal(err)
	}
}

// A takeover reads few events, however many there are, also when the writer died between
// two snapshots.
func TestTakeoverIsBounded(t *testing.T) {
	t.Parallel()
	const mostRead = 2000
	server, w := newWarehouse(t)
	w.concludedOrders(3000)
	first, kill := runWriter(t, server)
	if read := first.tookOver(t); read < 9000 {
		t.Errorf("without a snapshot, a takeover read %d events of more than 9000", read)
	}
	for round := range 3 {
		w.concludedOrders(1000 + 100*round)
		if got := w.order(inventory.Units("COMPASS", 1)); got != event.InventoryReserved { // the writer has read everything
			t.Errorf("an order is %s", got)
		}
		kill()
		w.concludedOrders(100) // while there is none
		var next *writer
		next, kill = runWriter(t, server)
		if read := next.tookOver(t); read > mostRead {
			t.Errorf("takeover %d read %d events, want %d at most", round, read, mostRead)
		} else {
			t.Logf("takeover %d read %d events", round, read)
		}
	}
	if got := w.order(inventory.Units("SOLD-OUT", 1)); got != event.InventoryRejected {
		t.Errorf("an order of a sold-out product is %s", got)
	}
}

// A takeover with a snapshot does not publish the first stock again.
func TestStockIsSeededOnce(t *testing.T) {
	t.Parallel()
	server, w := newWarehouse(t)
	seeds := make(chan *nats.Msg, 1000)
	if _, err := w.js.Conn().ChanSubscribe("stock.added.*", seeds); err != nil {
		t.Fatal(err)
	}
	first, kill := runWriter(t, server)
	first.tookOver(t)
	kv, err := w.js.KeyValue(context.Background(), stream.StockBucket)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "a snapshot is stored", func() bool { _, err := kv.Get(context.Background(), inventory.Name); return err == nil })
	kill()
	published := len(seeds)
	second, _ := runWriter(t, server)
	second.tookOver(t)
	if published == 0 || len(seeds) != published {
		t.Errorf("%d messages published stock, and %d more at the takeover", published, len(seeds)-published)
	}
}

// A writer that began without the bucket stores snapshots when provision has made it.
func TestSnapshotsInALaterBucket(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, w := newWarehouse(t)
	if err := w.js.DeleteKeyValue(ctx, stream.StockBucket); err != nil {
		t.Fatal(err)
	}
	writer, _ := runWriter(t, server)
	writer.tookOver(t)
	w.provision()
	kv, err := w.js.KeyValue(ctx, stream.StockBucket)
	if err != nil {
		t.Fatal(err)
	}
	systemtest.Until(t, "a snapshot is stored in the same term", func() bool {
		w.order(inventory.Units("COMPASS", 1))
		_, err := kv.Get(ctx, inventory.Name)
		return err == nil
	})
	if n := strings.Count(writer.log.String(), "lease acquired"); n != 1 {
		t.Errorf("there were %d terms", n)
	}
	if n := strings.Count(writer.log.String(), "bucket STOCK is missing: run `ordertrail provision`"); n != 1 {
		t.Errorf("the missing bucket was logged %d times:\n%s", n, writer.log.String())
	}
}

// A stored snapshot that is not of this stream is ignored: a unit that it invents is
// not sold.
func TestSnapshotOfAnotherStream(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(*inventory.Snapshot){
		"Created":  func(s *inventory.Snapshot) { s.Created = s.Created.Add(time.Second) },
		"Ahead":    func(s *inventory.Snapshot) { s.Sequence += 1000 },
		"Message":  func(s *inventory.Snapshot) { s.Time = s.Time.Add(time.Nanosecond) },
		"Original": func(*inventory.Snapshot) {}, // what it invents would be sold
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			server, w := newWarehouse(t)
			first, kill := runWriter(t, server)
			first.tookOver(t)
			kv, err := w.js.KeyValue(ctx, stream.StockBucket)
			if err != nil {
				t.Fatal(err)
			}
			var snap inventory.Snapshot
			systemtest.Until(t, "a snapshot is stored", func() bool {
				entry, err := kv.Get(ctx, inventory.Name)
				return err == nil && json.Unmarshal(entry.Value(), &snap) == nil
			})
			kill()
			forge(&snap)
			snap.Available["SOLD-OUT"] = math.MaxInt32
			value, err := json.Marshal(snap)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := kv.Put(ctx, inventory.Name, value); err != nil {
				t.Fatal(err)
			}
			second, _ := runWriter(t, server)
			second.tookOver(t)
			want := event.InventoryRejected
			if name == "Original" {
				want = event.InventoryReserved
			}
			if got := w.order(inventory.Units("SOLD-OUT", 1)); got != want {
				t.Errorf("an order is %s, want %s\n%s", got, want, second.log.String())
			}
		})
	}
}

// If events that the stock depends on are gone, nothing is decided, and the replica is
// not ready and says why.
func TestNoDecisionWithoutTheWholeStream(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, w := newWarehouse(t)
	in, err := w.js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := in.CachedInfo().Config
	cfg.FirstSeq = 100
	if err := w.js.DeleteStream(ctx, stream.OrdersStream); err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.CreateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	rt, _ := runWriter(t, server)
	const reason = "events that the stock depends on are gone"
	systemtest.Until(t, "the replica is not ready", func() bool {
		err := rt.Ready(ctx)
		return err != nil && regexp.MustCompile(reason).MatchString(err.Error())
	})
	if log := rt.log.String(); !regexp.MustCompile(`level=WARN msg="not ready" .*` + reason).MatchString(log) {
		t.Errorf("the log lacks the reason:\n%s", log)
	}
	if info, err := in.Info(ctx); err != nil || info.State.Msgs > 0 {
		t.Errorf("%d messages were published (%v)", info.State.Msgs, err)
	}
}
