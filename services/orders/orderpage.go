package orders

import (
	"context"
	"net/http"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/web"
)

// orderPage is one order.
type orderPage struct {
	Order
	Placed time.Time
	Took   time.Duration // from there to its end, 0 if that is not there yet
	Over   bool          // shipped or cancelled
	Steps  []step
	Mails  []sent
}

// step is an event in an order's timeline.
type step struct {
	Event
	Service string
	Story   string
	After   time.Duration // since the order was placed
}

// sent is a mail.
type sent struct {
	event.MailSent
	Time    time.Time
	Subject string
	To      string // masked: everybody can see the page
	Text    string // "" if it is not recorded
}

// stories says what an event means.
var stories = map[event.Type]string{
	event.OrderCreated:         "The order is placed",
	event.OrderCancelled:       "The order's end is asked for", // asked has more
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

// asked says who has asked for an order's end.
var asked = map[string]string{
	event.ReasonCustomer: "The customer asks for the order's end",
	event.ReasonDeadline: "The deadline passes, which asks for the order's end",
}

// storyOf says what an event means.
func storyOf(e event.Event) string {
	if e.Type == event.OrderCancelled {
		if why, err := event.Decode[event.CancelRequested](e); err == nil && asked[why.Reason] != "" {
			return asked[why.Reason]
		}
	}
	return stories[e.Type]
}

func (o *orders) showPage(w http.ResponseWriter, r *http.Request, id string) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	events, err := o.read(ctx, id, o.recent.last(id))
	if err == nil && fold(events).ID == "" {
		err = errNotFound
	}
	if err != nil {
		o.fail(w, r, err)
		return
	}
	p := orderPage{Order: fold(events)}
	p.Over = p.concluded()
	for i, e := range events {
		if e.Type == event.OrderCreated {
			p.Placed = e.Time
		}
		shown := p.Events[i]
		p.Steps = append(p.Steps, step{Event: shown, Service: e.Type.Domain(), Story: storyOf(e), After: e.Time.Sub(events[0].Time)})
		switch e.Type {
		case event.FulfillmentShipped, event.FulfillmentCancelled:
			p.Took = e.Time.Sub(events[0].Time)
		case event.NotifyReceived, event.NotifyShipped, event.NotifyCancelled, event.NotifyRefunded:
			p.Mails = append(p.Mails, o.mail(e))
		}
	}
	o.page(w, r, http.StatusOK, web.Page{
		Template: "order", Title: "Order …" + web.Short(id), Feed: "/orders/" + id + "/events", Data: p,
	})
}

// mail is what is known about a mail that an event says was sent.
func (o *orders) mail(e event.Event) sent {
	m := sent{Time: e.Time, Subject: strings.TrimPrefix(stories[e.Type], "Mail: ")}
	var err error
	if m.MailSent, err = event.Decode[event.MailSent](e); err != nil || o.mails == nil {
		return m
	}
	if kept, ok := o.mails.Find(m.MessageID); ok {
		m.Subject, m.To, m.Text = kept.Subject, kept.MaskedTo(), kept.Text
	}
	return m
}
