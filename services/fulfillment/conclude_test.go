package fulfillment

import (
	"context"
	"errors"
	"slices"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/servicetest"
)

// depot is a carrier that remembers what it was asked for one order.
type depot struct {
	err               error  // that Book returns
	during            func() // called while Book runs
	booked, cancelled bool
}

func (d *depot) Book(context.Context, string, string) (string, error) {
	d.booked = true
	if d.during != nil {
		d.during()
	}
	return "parcel", d.err
}

func (d *depot) Cancel(context.Context, string) error { d.cancelled = true; return nil }

// Each row is an order: its events in stream order, of which the last one is handled,
// and what the handler must do.
func TestConclude(t *testing.T) {
	rt := servicetest.Runtime(t, Name)
	const (
		confirmed = event.PaymentConfirmed
		declined  = event.PaymentDeclined
		reserved  = event.InventoryReserved
		rejected  = event.InventoryRejected
		asked     = event.OrderCancelled
		shipped   = event.FulfillmentShipped
		cancelled = event.FulfillmentCancelled
	)
	carrierDown := errors.New("the carrier is down")
	for _, tt := range []struct {
		name             string
		events           []event.Type // after orders.created; the last one is handled
		earlier          event.Type   // the conclusion that an earlier delivery has published
		during           event.Type   // stored while the parcel is booked
		carrier          error
		late             bool // the handler's context ends while the parcel is booked
		giveUp           bool // the event is about to become a dead letter
		err              error
		booked, unbooked bool
		want             event.Type // the order's conclusion; "" for none
		reason           string
	}{
		{name: "one outcome decides nothing", events: []event.Type{confirmed}},
		{name: "paid and in stock", events: []event.Type{confirmed, reserved}, booked: true, want: shipped},
		{name: "in stock and paid", events: []event.Type{reserved, confirmed}, booked: true, want: shipped},
		{name: "declined", events: []event.Type{reserved, declined}, want: cancelled, reason: event.ReasonPaymentDeclined},
		{name: "out of stock", events: []event.Type{confirmed, rejected}, want: cancelled, reason: event.ReasonOutOfStock},
		{name: "cancelled before the second outcome", events: []event.Type{confirmed, asked}, want: cancelled, reason: event.ReasonCustomer},
		{name: "cancelled after the second outcome", events: []event.Type{confirmed, reserved, asked}},
		{name: "the carrier refuses", events: []event.Type{confirmed, reserved}, carrier: ErrRefused, booked: true, want: cancelled, reason: event.ReasonUndeliverable},
		{name: "the carrier fails", events: []event.Type{confirmed, reserved}, carrier: carrierDown, err: carrierDown, booked: true},
		{name: "shipped by an earlier delivery", events: []event.Type{confirmed, reserved}, earlier: shipped, want: shipped},
		{name: "cancelled by an earlier delivery, which may have booked", events: []event.Type{confirmed, reserved}, earlier: cancelled, unbooked: true, want: cancelled, reason: event.ReasonUndeliverable},
		{name: "cancelled during the booking", events: []event.Type{confirmed, reserved}, during: cancelled, booked: true, unbooked: true, want: cancelled, reason: event.ReasonUndeliverable},
		{name: "cancelled during a booking that outlives its handler's time", events: []event.Type{confirmed, reserved}, during: cancelled, late: true, booked: true, unbooked: true, want: cancelled, reason: event.ReasonUndeliverable},
		{name: "given up", events: []event.Type{confirmed, reserved}, giveUp: true, unbooked: true, want: cancelled, reason: event.ReasonUndeliverable},
		{name: "given up after one outcome", events: []event.Type{confirmed}, giveUp: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			order := event.OrderKey{OrderID: event.NewOrderID()}
			items := []event.Item{{SKU: "COMPASS", Quantity: 1}}
			store := func(typ event.Type) event.Event {
				payload := map[event.Type]event.Payload{
					event.OrderCreated: event.Created{OrderKey: order, Items: items},
					confirmed:          event.Charge{OrderKey: order},
					declined:           event.Refused{OrderKey: order, Reason: event.ReasonPaymentDeclined},
					reserved:           event.Reservation{OrderKey: order, Items: items},
					rejected:           event.Refused{OrderKey: order, Reason: event.ReasonOutOfStock},
					asked:              event.Refused{OrderKey: order, Reason: event.ReasonCustomer},
					shipped:            event.Conclusion{OrderKey: order, Items: items},
					cancelled:          event.Conclusion{OrderKey: order, Items: items, Reason: event.ReasonUndeliverable},
				}[typ]
				stored, err := rt.Stream.PublishOnce(t.Context(), event.Draft{Type: typ, Payload: payload}, stream.Alone(typ, order.OrderID))
				if err != nil {
					t.Error(err)
				}
				return stored.Event
			}
			carrier := &depot{err: tt.carrier}
			ctx, end := context.WithCancel(t.Context())
			defer end()
			if tt.during != "" {
				carrier.during = func() {
					store(tt.during)
					if tt.late {
						end()
					}
				}
			}
			f := &fulfillment{rt, carrier}

			e := store(event.OrderCreated)
			for _, typ := range tt.events {
				e = store(typ)
			}
			handle := f.conclude
			if tt.giveUp {
				handle = f.giveUp
			}
			if tt.earlier != "" {
				store(tt.earlier)
				e.Delivery = 2 // a redelivery: the handler reads up to the end of the stream
			}
			if err := handle(ctx, e); !errors.Is(err, tt.err) {
				t.Errorf("the handler returned %v, want %v", err, tt.err)
			}

			if carrier.booked != tt.booked || carrier.cancelled != tt.unbooked {
				t.Errorf("booked %v, want %v; unbooked %v, want %v", carrier.booked, tt.booked, carrier.cancelled, tt.unbooked)
			}
			events, err := rt.Stream.OrderEvents(t.Context(), order.OrderID, 0, shipped, cancelled)
			if err != nil {
				t.Fatal(err)
			}
			var got []event.Type
			var reason string
			for _, e := range events {
				got = append(got, e.Type)
				conclusion, err := event.Decode[event.Conclusion](e)
				if err != nil {
					t.Fatal(err)
				}
				reason = conclusion.Reason
			}
			want := []event.Type{tt.want}
			if tt.want == "" {
				want = nil
			}
			if !slices.Equal(got, want) || reason != tt.reason {
				t.Errorf("the stream has %v with reason %q, want %v with %q", got, reason, want, tt.reason)
			}
		})
	}
}
