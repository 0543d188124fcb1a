package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
)

func TestOutbox(t *testing.T) {
	var o outbox.Outbox
	if got := len(o.Mails()); got != 0 {
		t.Errorf("a new outbox holds %d mails", got)
	}
	for i := range 1200 {
		if err := o.Send(context.Background(), outbox.Mail{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	mails := o.Mails()
	if got, want := len(mails), 1000; got != want {
		t.Fatalf("%d mails, want %d", got, want)
	}
	if mails[0].ID != "200" || mails[999].ID != "1199" {
		t.Errorf("mails %s to %s, want 200 to 1199", mails[0].ID, mails[999].ID)
	}
	if _, found := o.Find("199"); found {
		t.Error("found a mail that was forgotten")
	}
	if m, found := o.Find("200"); !found || m.ID != "200" {
		t.Errorf("Find(200) = %v, %t", m, found)
	}
	mails[0].ID = "changed"
	if got := o.Mails()[0].ID; got != "200" {
		t.Errorf("a caller's change reached the outbox: %s", got)
	}
	var sending sync.WaitGroup
	for range 10 {
		sending.Go(func() { _ = o.Send(context.Background(), outbox.Mail{}); o.Mails() })
	}
	sending.Wait()
	if got, want := o.Channel(), "outbox"; got != want {
		t.Errorf("channel = %q, want %q", got, want)
	}
}

// Strangers see the first letter of an address, and its domain.
func TestMaskedTo(t *testing.T) {
	for address, want := range map[string]string{
		"robin@example.com": "r…@example.com", "ü@example.com": "ü…@example.com",
		`"robin@home"@example.com`: `"…@example.com`, "robin": "…", "": "…",
	} {
		if got := (outbox.Mail{To: event.Customer{Email: address}}).MaskedTo(); got != want {
			t.Errorf("%s is shown as %q, want %q", address, got, want)
		}
	}
}
