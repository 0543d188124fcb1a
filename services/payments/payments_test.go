package payments

import (
	"context"
	"errors"
	"slices"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/servicetest"
)

// till is a card gateway that remembers what it was asked for one order.
type till struct {
	err     error  // that Charge returns
	during  func() // called while its first call runs
	charged bool
	refunds int
}

func (g *till) Charge(_ context.Context, c Charge) (string, error) {
	g.charged = true
	g.during()
	return "ch_" + c.Key, g.err
}

func (g *till) Refund(context.Context, string) error {
	if g.refunds++; g.refunds == 1 && !g.charged {
		g.during()
	}
	return nil
}

// Each row is an order: the events before, the handler that runs, and what it must do.
func TestPayAndClose(t *testing.T) {
	rt := servicetest.Runtime(t, Name)
	const (
		confirmed = event.PaymentConfirmed
		declined  = event.PaymentDeclined
		refunded  = event.PaymentRefunded
	)
	gatewayDown := errors.New("the card gateway is down")
	for _, tt := range []struct {
		name     string
		before   []event.Type // stored before the handler runs
		during   event.Type   // stored while the gateway charges or refunds
		close    bool         // close runs, and not pay
		giveUp   bool         // giveUp runs, and not pay
		redriven bool         // an operator has sent the event again
		late     bool         // the handler's context ends while the gateway charges or refunds
		gateway  error
		err      error
		charged  bool
		refunds  int
		want     []event.Type // payments' events of the order, in stream order
	}{
		{name: "a card that pays", charged: true, want: []event.Type{confirmed}},
		{name: "a declined card", gateway: ErrDeclined, charged: true, want: []event.Type{declined}},
		{name: "a gateway that fails decides nothing", gateway: gatewayDown, err: gatewayDown, charged: true},
		{name: "a redelivery after the outcome publishes no second one", before: []event.Type{confirmed}, charged: true, want: []event.Type{confirmed}},
		{name: "an order closed during the charge gets its money back", during: declined, charged: true, refunds: 1, want: []event.Type{declined}},
		{name: "a charge that outlives its handler's time, of a closed order, is refunded", during: declined, late: true, charged: true, refunds: 1, want: []event.Type{declined}},
		{name: "an order closed while its card was declined", during: declined, gateway: ErrDeclined, charged: true, want: []event.Type{declined}},
		{name: "a redrive before any outcome charges", redriven: true, charged: true, want: []event.Type{confirmed}},
		{name: "a redrive after the outcome does not charge", redriven: true, before: []event.Type{confirmed}, want: []event.Type{confirmed}},
		{name: "a redrive after the card was declined only refunds", redriven: true, before: []event.Type{declined}, refunds: 1, want: []event.Type{declined}},
		{name: "a redrive of a cancelled order only refunds", redriven: true, before: []event.Type{event.FulfillmentCancelled}, refunds: 1},

		{name: "given up before any outcome, which close will decide", giveUp: true},
		{name: "given up after the confirmation", giveUp: true, before: []event.Type{confirmed}, want: []event.Type{confirmed}},
		{name: "given up after the order was closed: the answer to the last charge may be lost", giveUp: true, before: []event.Type{declined}, refunds: 1, want: []event.Type{declined}},

		{name: "close refunds a confirmed payment", close: true, before: []event.Type{confirmed}, refunds: 1, want: []event.Type{confirmed, refunded}},
		{name: "close publishes a refund that outlives its handler's time", close: true, late: true, before: []event.Type{confirmed}, refunds: 1, want: []event.Type{confirmed, refunded}},
		{name: "close decides an open payment, so that a late charge finds it closed", close: true, refunds: 1, want: []event.Type{declined}},
		{name: "close refunds a charge that is confirmed meanwhile", close: true, during: confirmed, refunds: 2, want: []event.Type{confirmed, refunded}},
		{name: "close finds the card declined meanwhile", close: true, during: declined, refunds: 1, want: []event.Type{declined}},
		{name: "close has nothing to do for a declined payment", close: true, before: []event.Type{declined}, want: []event.Type{declined}},
		{name: "close a second time", close: true, before: []event.Type{confirmed, refunded}, refunds: 1, want: []event.Type{confirmed, refunded}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			order := event.OrderKey{OrderID: event.NewOrderID()}
			items := []event.Item{{SKU: "COMPASS", Quantity: 1}}
			total := event.Money{Amount: 2490, Currency: "EUR"}
			store := func(typ event.Type) event.Event {
				payload := map[event.Type]event.Payload{
					event.OrderCreated:         event.Created{OrderKey: order, Items: items, Total: total},
					event.FulfillmentCancelled: event.Conclusion{OrderKey: order, Items: items, Total: total},
					confirmed:                  event.Charge{OrderKey: order, ChargeID: "ch_" + order.OrderID, Amount: total},
					declined:                   event.Refused{OrderKey: order, Reason: event.ReasonOrderCancelled},
					refunded:                   event.Charge{OrderKey: order, Amount: total},
				}[typ]
				stored, err := rt.Stream.PublishOnce(t.Context(), event.Draft{Type: typ, Payload: payload}, stream.Alone(typ, order.OrderID))
				if err != nil {
					t.Error(err)
				}
				return stored.Event
			}
			ctx, end := context.WithCancel(t.Context())
			defer end()
			gateway := &till{err: tt.gateway, during: func() {
				if tt.during != "" {
					store(tt.during)
				}
				if tt.late {
					end()
				}
			}}
			p := &payments{rt, gateway}

			created := store(event.OrderCreated)
			for _, typ := range tt.before {
				store(typ)
			}
			var err error
			switch created.Redriven = tt.redriven; {
			case tt.close:
				err = p.close(ctx, store(event.FulfillmentCancelled), event.Conclusion{OrderKey: order, Items: items, Total: total})
			case tt.giveUp:
				err = p.durable().BeforeDeadLetter(ctx, created)
			default:
				err = p.pay(ctx, created, event.Created{OrderKey: order, Items: items, Total: total})
			}

			if !errors.Is(err, tt.err) {
				t.Errorf("the handler returned %v, want %v", err, tt.err)
			}
			if gateway.charged != tt.charged || gateway.refunds != tt.refunds {
				t.Errorf("charged %v, want %v; refunded %d times, want %d", gateway.charged, tt.charged, gateway.refunds, tt.refunds)
			}
			events, err := rt.Stream.OrderEvents(t.Context(), order.OrderID, 0, confirmed, declined, refunded)
			if err != nil {
				t.Fatal(err)
			}
			var got []event.Type
			for _, e := range events {
				got = append(got, e.Type)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("the stream has %v, want %v", got, tt.want)
			}
		})
	}
}
