package outbox_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
)

// The outbox keeps the newest 1000 mails.
func TestOutbox(t *testing.T) {
	var o outbox.Outbox
	var sending sync.WaitGroup
	for i := range 200 {
		sending.Go(func() { _ = o.Send(context.Background(), outbox.Mail{ID: fmt.Sprint(i)}); o.Find("0") })
	}
	sending.Wait()
	for i := 200; i < 1200; i++ {
		if err := o.Send(context.Background(), outbox.Mail{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1200 {
		if m, found := o.Find(fmt.Sprint(i)); found != (i >= 200) || found && m.ID != fmt.Sprint(i) {
			t.Errorf("Find(%d) = %v, %t", i, m, found)
		}
	}
	if got, want := o.Channel(), "outbox"; got != want {
		t.Errorf("channel = %q, want %q", got, want)
	}
}

// A masked address has its first letter and its domain.
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
