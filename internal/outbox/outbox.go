// Package outbox records mails in memory instead of sending them, so that the shop's
// pages can show them.
package outbox

import (
	"context"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"example.org/ordertrail/internal/event"
)

// Mail is one message to a customer.
type Mail struct {
	ID      string // Message-ID (RFC 5322) without brackets: the same for the same order and kind
	To      event.Customer
	Subject string
	Text    string // without the salutation, so without the customer's name
}

// Body returns the mail as it is sent: the salutation and the text.
func (m Mail) Body() string { return "Dear " + m.To.Name + ",\n\n" + m.Text }

// MaskedTo returns the address for a page that everybody can see: the first letter and
// the domain, which the customer recognises.
func (m Mail) MaskedTo() string {
	at := strings.LastIndex(m.To.Email, "@")
	if at <= 0 {
		return "…"
	}
	first, _ := utf8.DecodeRuneInString(m.To.Email)
	return string(first) + "…" + m.To.Email[at:]
}

// size is the number of mails that an Outbox keeps.
const size = 1000

// Outbox keeps the newest 1000 mails. The zero value is ready for use; it is safe for
// concurrent use.
type Outbox struct {
	mu    sync.Mutex
	mails []Mail
}

// Send records the mail.
func (o *Outbox) Send(_ context.Context, m Mail) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.mails) == size {
		o.mails = slices.Delete(o.mails, 0, 1)
	}
	o.mails = append(o.mails, m)
	return nil
}

// Channel returns "outbox".
func (o *Outbox) Channel() string { return "outbox" }

// Find returns the mail with this Message-ID, if it is still kept.
func (o *Outbox) Find(id string) (Mail, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range slices.Backward(o.mails) {
		if m.ID == id {
			return m, true
		}
	}
	return Mail{}, false
}
