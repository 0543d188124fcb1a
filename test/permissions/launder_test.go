package permissions_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/test/systemtest"
)

// The server sends its answers to the reply subject of a request, without a check of
// permissions. So a user that may not publish an event can make the server do it. The
// message that enters the stream this way is a copy of another one, and every consumer
// refuses it. It takes the place of an event of one order, and that order ends by its
// deadline.
func TestLaundering(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	log := new(systemtest.Output)
	sys := systemtest.StartOn(t, s.asItself, systemtest.Deadline(6*time.Second), func(cfg *systemtest.Config) {
		cfg.Log = slog.NewTextHandler(log, nil)
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Fatal(err)
	}
	_, in := s.everything(t)
	// An event carries its guard, which keeps its copies out; see the next test. The
	// lease message has none.
	lease := event.StockLease.Subject(event.LeaseKey)
	original, err := in.GetLastMsgForSubject(ctx, lease)
	if err != nil {
		t.Fatal(err)
	}

	ways := map[string]func(t *testing.T, target string){
		// A stored message, as the answer to a direct get.
		"DirectGet": func(t *testing.T, target string) {
			request := fmt.Sprintf(`{"seq":%d}`, original.Sequence)
			publish(t, s.connect(t, notify.Name), "$JS.API.DIRECT.GET.ORDERS", target, request)
		},
		// The description of the stream.
		"Answer": func(t *testing.T, target string) {
			publish(t, s.connect(t, analytics.Name), "$JS.API.STREAM.INFO.ORDERS", target, "")
		},
	}
	t.Run("ways", func(t *testing.T) {
		for name, launder := range ways {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// The gateway takes a second, so the copy is there first.
				ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
				defer cancel()
				slow := demo.Scenarios()[0]
				slow.Token = "tok_slow"
				order, err := sys.Shop.Place(ctx, slow)
				if err != nil {
					t.Fatal(err)
				}
				target := event.PaymentConfirmed.Subject(order.ID)
				launder(t, target)
				systemtest.Until(t, "the copy is stored", func() bool {
					_, err := in.GetLastMsgForSubject(ctx, target)
					return err == nil
				})
				order, err = sys.Shop.Await(ctx, order.ID, func(o orders.Order) bool { return o.State == orders.StateCancelled })
				if err != nil || order.Reason != event.ReasonDeadline {
					t.Errorf("the order is %s (%s), %v, want it cancelled by its deadline", order.State, order.Reason, err)
				}
				for _, e := range order.Events {
					if e.Type == event.PaymentConfirmed {
						t.Errorf("the copy, sequence %d, is believed", e.Sequence)
					}
				}
				refusal := `msg="refused a message" service=fulfillment subject=` + target
				systemtest.Until(t, "fulfillment says that it refuses "+target, func() bool { return strings.Contains(log.String(), refusal) })
			})
		}
	})
}

// A consumer delivers to a subject that its creator chooses, but the server refuses a push
// consumer that delivers into its own stream. The next message of a pull consumer can only
// enter the stream under its own subject, as a repetition. The guard of an event refuses
// that. The lease message has no guard: a repetition ends the writer's term, and inventory
// starts another.
func TestLaunderingConsumers(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	// A writer's term that ends may cost the next one some seconds.
	sys := systemtest.StartOn(t, s.asItself, systemtest.Deadline(service.DefaultOrderDeadline))
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	first, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0])
	if err != nil {
		t.Fatal(err)
	}
	_, in := s.everything(t)
	nc := s.connect(t, analytics.Name)
	create := func(name, config string) string {
		t.Helper()
		answer, err := nc.Request("$JS.API.CONSUMER.CREATE.ORDERS."+name, []byte(`{"stream_name":"ORDERS","config":{"name":"`+name+
			`","ack_policy":"none","deliver_policy":"all",`+config+`}}`), systemtest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer.Data)
	}
	target := event.PaymentConfirmed.Subject(event.NewOrderID())
	lease := event.StockLease.Subject(event.LeaseKey)
	if got := create("pusher", `"filter_subject":"`+lease+`","deliver_subject":"`+target+`"`); !strings.Contains(got, "deliver subject forms a cycle") {
		t.Errorf("a consumer that delivers to %s: %s", target, got)
	}
	before, err := in.GetLastMsgForSubject(ctx, lease)
	if err != nil {
		t.Fatal(err)
	}
	confirmed := event.PaymentConfirmed.Subject(first.ID)
	payment, err := in.GetLastMsgForSubject(ctx, confirmed)
	if err != nil {
		t.Fatal(err)
	}
	for name, filter := range map[string]string{"events": confirmed, "leases": lease} {
		create(name, `"filter_subject":"`+filter+`"`)
		publish(t, nc, "$JS.API.CONSUMER.MSG.NEXT.ORDERS."+name, target, `{"batch":1}`)
	}
	systemtest.Until(t, "the lease message is stored again, and then one of a new term", func() bool {
		now, err := in.GetLastMsgForSubject(ctx, lease)
		if err == nil && now.Sequence == before.Sequence+1 { // nothing has been decided since
			_, err = sys.Shop.Place(ctx, demo.Scenarios()[0])
		}
		return err == nil && now.Sequence > before.Sequence+1
	})
	if again, err := in.GetLastMsgForSubject(ctx, confirmed); err != nil || again.Sequence != payment.Sequence {
		t.Errorf("the payment is stored again: %v, %v", again, err)
	}
	if got, err := in.GetLastMsgForSubject(ctx, target); err == nil {
		t.Errorf("there is a message on %s: %v", target, got)
	}
	if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A copy of an event carries the event's guard, which the event itself holds: the
// stream takes no copy, not on the event's own subject, where it would be believed,
// and on no other.
func TestRepeatedEvent(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	sent := watch(t, s)
	sys, _ := run(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	unlimited, in := s.everything(t)
	nc := s.connect(t, notify.Name)
	other := event.NewOrderID()
	for _, sc := range demo.Scenarios()[:4] {
		order, err := demo.Play(ctx, sys.Shop, sc)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range order.Events {
			for _, subject := range []string{e.Type.Subject(order.ID), event.FulfillmentShipped.Subject(other)} {
				publish(t, nc, "$JS.API.DIRECT.GET.ORDERS", subject, fmt.Sprintf(`{"seq":%d}`, e.Sequence))
				systemtest.Until(t, "the copy is under way: "+subject, func() bool {
					return slices.ContainsFunc(sent(), func(m *nats.Msg) bool {
						return m.Subject == subject && m.Header.Get(jetstream.SequenceHeader) == strconv.FormatUint(e.Sequence, 10)
					})
				})
			}
		}
		// A message that arrives later is stored later.
		if _, err := unlimited.Publish(ctx, "redrive.unknown.x", nil); err != nil {
			t.Fatal(err)
		}
		for _, e := range order.Events {
			stored, err := in.GetLastMsgForSubject(ctx, e.Type.Subject(order.ID))
			if err != nil || stored.Sequence != e.Sequence {
				t.Errorf("%s: %s is stored again: %v, %v", sc.Name, e.Type, stored, err)
			}
		}
	}
	if stored, err := in.GetLastMsgForSubject(ctx, event.FulfillmentShipped.Subject(other)); err == nil {
		t.Errorf("a copy is stored: %v", stored)
	}
}

// publish sends a request whose answer goes to reply.
func publish(t *testing.T, nc *nats.Conn, subject, reply, request string) {
	t.Helper()
	if err := nc.PublishRequest(subject, reply, []byte(request)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
