package system_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// BenchmarkBare is the floor under BenchmarkFlow: the same JetStream operations on
// the same server, each on a connection as there, with no HTTP, JSON, headers,
// rules or spans.
func BenchmarkBare(b *testing.B) {
	for _, load := range []struct {
		name      string
		customers int
	}{{"busy", 128}, {"idle", 1}} {
		b.Run(load.name, func(b *testing.B) { benchmarkBare(b, load.customers) })
	}
}

func benchmarkBare(b *testing.B, customers int) {
	server := systemtest.Server(b)
	connect := func() (*nats.Conn, jetstream.JetStream) {
		nc, err := server.Connect()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			b.Fatal(err)
		}
		return nc, js
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	_, orders := connect()
	if err := stream.Provision(ctx, orders, stream.Topology{Durables: app.Durables()}); err != nil {
		b.Fatal(err)
	}
	lease, err := orders.Publish(ctx, "stock.lease.main", nil)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 400)
	publish := func(js jetstream.JetStream, subject, filter string, last uint64) {
		if _, err := js.Publish(ctx, subject, body, jetstream.WithExpectLastSequenceForSubject(last, filter)); err != nil && ctx.Err() == nil {
			b.Errorf("%s: %v", subject, err)
		}
	}
	of := func(m jetstream.Msg) (name, id string) {
		i := strings.LastIndexByte(m.Subject(), '.')
		return m.Subject()[:i], m.Subject()[i+1:]
	}
	// consume handles a durable's messages as the services do, several at a time.
	consume := func(durable string, handle func(js jetstream.JetStream, name, id string, read func(...string) int)) {
		nc, js := connect()
		c, err := js.Consumer(ctx, stream.OrdersStream, durable)
		if err != nil {
			b.Fatal(err)
		}
		h := newHistory(b, nc)
		slots := make(chan struct{}, 32)
		cc, err := c.Consume(func(m jetstream.Msg) {
			slots <- struct{}{}
			go func() {
				name, id := of(m)
				meta, err := m.Metadata()
				if err != nil {
					b.Error(err)
				} else {
					handle(js, name, id, func(subjects ...string) int { return h.read(ctx, meta.Sequence.Stream, subjects) })
				}
				_ = m.Ack() // the connection may be closed: the benchmark is over
				<-slots
			}()
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(cc.Stop)
	}
	fold := func(filters []string, handle func(js jetstream.JetStream, name, id string)) {
		_, js := connect()
		c, err := js.OrderedConsumer(ctx, stream.OrdersStream, jetstream.OrderedConsumerConfig{FilterSubjects: filters})
		if err != nil {
			b.Fatal(err)
		}
		cc, err := c.Consume(func(m jetstream.Msg) { name, id := of(m); handle(js, name, id) })
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(cc.Stop)
	}
	consume("payments", func(js jetstream.JetStream, name, id string, _ func(...string) int) {
		publish(js, "payments.confirmed."+id, "payments.*."+id, 0)
	})
	consume("fulfillment", func(js jetstream.JetStream, name, id string, read func(...string) int) {
		if read("orders.created."+id, "payments.confirmed."+id, "inventory.reserved."+id) == 3 {
			// Both handlers may see both outcomes; one of them is refused.
			_, _ = js.Publish(ctx, "fulfillment.shipped."+id, body, jetstream.WithExpectLastSequenceForSubject(0, "fulfillment.*."+id))
		}
	})
	consume("notify", func(js jetstream.JetStream, name, id string, read func(...string) int) {
		fact := map[string]string{"orders.created": "notify.received.", "fulfillment.shipped": "notify.shipped."}[name] + id
		read(name+"."+id, fact)
		publish(js, fact, fact, 0)
	})
	fold([]string{"orders.created.*", "fulfillment.*.*", "inventory.*.*", "stock.*.*"}, func(js jetstream.JetStream, name, id string) {
		if name == "orders.created" {
			publish(js, "inventory.reserved."+id, "stock.lease.main", lease.Sequence)
		}
	})
	fold([]string{"orders.*.*", "payments.*.*", "inventory.*.*", "fulfillment.*.*", "notify.*.*"}, func(jetstream.JetStream, string, string) {})
	fold([]string{"orders.*.*", "fulfillment.*.*"}, func(jetstream.JetStream, string, string) {})
	parcels := &parcels{created: map[string]time.Time{}, shipped: map[string]chan struct{}{}}
	fold([]string{"fulfillment.shipped.*"}, func(_ jetstream.JetStream, _, id string) { close(parcels.of(id)) })

	b.ResetTimer()
	todo := make(chan struct{})
	var busy sync.WaitGroup
	for range customers {
		busy.Go(func() {
			for range todo {
				id := event.NewOrderID()
				publish(orders, "orders.created."+id, "orders.*."+id, 0)
				parcels.await(b, id)
			}
		})
	}
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	busy.Wait()
	b.StopTimer()
	cancel() // before the connections close, so that operations under way report no errors
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}

// history is a batched direct get with one inbox for all.
type history struct {
	nc      *nats.Conn
	inbox   string
	mu      sync.Mutex
	pending map[string]chan answer
	seen    map[string]int
}

// answer is the number of messages, and the sequence up to which the replica that answers
// has applied the stream.
type answer struct {
	messages int
	upTo     uint64
}

func newHistory(b *testing.B, nc *nats.Conn) *history {
	h := &history{nc: nc, inbox: nc.NewInbox() + ".", pending: map[string]chan answer{}, seen: map[string]int{}}
	if _, err := nc.Subscribe(h.inbox+"*", func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if m.Header.Get("Status") == "" {
			h.seen[m.Subject]++
			return
		}
		upTo, _ := strconv.ParseUint(m.Header.Get("Nats-UpTo-Sequence"), 10, 64) // 0: ask again
		h.pending[m.Subject] <- answer{h.seen[m.Subject], upTo}
		delete(h.pending, m.Subject)
		delete(h.seen, m.Subject)
	}); err != nil {
		b.Fatal(err)
	}
	return h
}

// read returns how many of the subjects hold a message, as of sequence at least.
func (h *history) read(ctx context.Context, sequence uint64, subjects []string) int {
	request := []byte(`{"multi_last":["` + strings.Join(subjects, `","`) + `"]}`)
	for {
		reply, done := h.inbox+event.NewOrderID(), make(chan answer, 1)
		h.mu.Lock()
		h.pending[reply] = done
		h.mu.Unlock()
		if err := h.nc.PublishRequest("$JS.API.DIRECT.GET."+stream.OrdersStream, reply, request); err != nil {
			return 0
		}
		select {
		case a := <-done:
			if a.upTo >= sequence {
				return a.messages
			}
		case <-ctx.Done():
			return 0
		}
	}
}
