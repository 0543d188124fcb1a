package storefront

import (
	"net/http"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/services/orders"
)

// orderPage is one order.
type orderPage struct {
	orders.Order
	Placed time.Time
	Took   time.Duration // until the conclusion; 0 before
	Over   bool          // shipped or cancelled
	Steps  []step
	Mails  []mail
}

// step is an event in an order's timeline.
type step struct {
	orders.Event
	Service string
	Story   string
	After   time.Duration // since the order was placed
}

// mail is a mail that was sent.
type mail struct {
	event.MailSent
	Time    time.Time
	Subject string
	To      string // masked: everybody can see the page
	Text    string // "" if it is not recorded
}

// stories are the events in words.
var stories = map[event.Type]string{
	event.OrderCreated:         "The order is placed",
	event.OrderCancelled:       "The order's end is asked for", // requests has more
	event.PaymentConfirmed:     "The card is charged",
	event.PaymentDeclined:      "The card is not charged",
	event.PaymentRefunded:      "The money is given back",
	event.InventoryReserved:    "All items are reserved",
	event.InventoryRejected:    "Not all items are there",
	event.InventoryReleased:    "The items go back on the shelf",
	event.FulfillmentShipped:   "The parcel is on its way",
	event.FulfillmentCancelled: "The order is cancelled",
	event.NotifyReceived:       "Mail: we have received your order",
	event.NotifyShipped:        "Mail: your order is on its way",
	event.NotifyCancelled:      "Mail: your order was cancelled",
	event.NotifyRefunded:       "Mail: your money is on its way back",
}

// requests are the reasons of orders.cancelled in words.
var requests = map[string]string{
	event.ReasonCustomer: "The customer asks for the order's end",
	event.ReasonDeadline: "The deadline passes, which asks for the order's end",
}

// storyOf describes an event in words.
func storyOf(e event.Event) string {
	if e.Type == event.OrderCancelled {
		if request, err := event.Decode[event.Refused](e); err == nil && requests[request.Reason] != "" {
			return requests[request.Reason]
		}
	}
	return stories[e.Type]
}

// order shows one order.
func (s *storefront) order(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	order, events, err := s.shop.Read(r.Context(), id, s.shop.Last(id))
	if err != nil {
		return err
	}
	p := orderPage{Order: order, Over: order.Concluded()}
	for i, e := range events {
		if e.Type == event.OrderCreated {
			p.Placed = e.Time
		}
		after := e.Time.Sub(events[0].Time)
		p.Steps = append(p.Steps, step{Event: order.Events[i], Service: e.Type.Domain(), Story: storyOf(e), After: after})
		switch e.Type {
		case event.FulfillmentShipped, event.FulfillmentCancelled:
			p.Took = after
		case event.NotifyReceived, event.NotifyShipped, event.NotifyCancelled, event.NotifyRefunded:
			p.Mails = append(p.Mails, s.mail(e))
		}
	}
	return s.page(w, r, http.StatusOK, web.Page{
		Template: "order", Title: "Order …" + web.Short(id), Feed: "/orders/" + id + "/events", Seen: events[len(events)-1].Sequence, Data: p,
	})
}

// mail returns the mail that an event reports, with its text if it is recorded here.
func (s *storefront) mail(e event.Event) mail {
	m := mail{Time: e.Time, Subject: strings.TrimPrefix(stories[e.Type], "Mail: ")}
	var err error
	if m.MailSent, err = event.Decode[event.MailSent](e); err != nil || s.mails == nil {
		return m
	}
	if kept, ok := s.mails.Find(m.MessageID); ok {
		m.Subject, m.To, m.Text = kept.Subject, kept.MaskedTo(), kept.Text
	}
	return m
}
