package notify

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
)

// Retries determines when a mail that the mail server does not take now is tried again.
type Retries struct {
	Pauses []time.Duration // after the first attempt, the second, and so on; the last one is used for all further ones
	For    time.Duration   // from the first attempt; an attempt that fails later makes the mail a dead letter
}

// DefaultRetries are those of a mail server (RFC 5321, section 4.5.4.1): quick at first,
// because servers that greylist accept a mail after some minutes.
var DefaultRetries = Retries{
	Pauses: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour},
	For:    48 * time.Hour,
}

// pause returns the pause after an attempt, counted from 1. It is up to a tenth longer than
// in Pauses, and always the same for the same mail, so that mails do not stay together.
func (r Retries) pause(tries int, mail string) time.Duration {
	pause := r.Pauses[min(tries, len(r.Pauses))-1]
	hash := fnv.New32a()
	fmt.Fprint(hash, tries, mail)
	return pause + pause/10*time.Duration(hash.Sum32()%1000)/1000
}

// again makes another attempt, which is due.
func (n *notify) again(ctx context.Context, k kind, e event.Event, r event.MailRetry) error {
	if e.Redriven { // an operator gives it as long again
		r.Since, r.Tries = time.Now(), 0
	}
	events, err := n.Stream.OrderEvents(ctx, e.Key, 0, k.cause)
	if err != nil {
		return err
	}
	cause, ok := event.Find(events, k.cause)
	if !ok { // a replica of the stream that lags, or a stream that was replaced
		return n.tryLater(ctx, k, r, fmt.Errorf("the stream has no %s of the order", k.cause))
	}
	return n.send(ctx, k, cause, e.Sequence, r)
}

// tryLater schedules the next attempt after one that failed, unless the failure is final
// or the time is over.
func (n *notify) tryLater(ctx context.Context, k kind, r event.MailRetry, failed error) error {
	if stream.IsPermanent(failed) {
		return failed
	}
	r.Tries++
	if passed := time.Since(r.Since); passed >= n.retries.For {
		return stream.Permanent(fmt.Errorf("not sent in %v and %d attempts: %w", passed.Round(time.Second), r.Tries, failed))
	}
	pause := n.retries.pause(r.Tries, MessageID(k.sent, r.OrderID))
	if err := n.Stream.ScheduleMail(ctx, k.sent, r, time.Now().Add(pause)); err != nil {
		return err
	}
	n.Log.WarnContext(ctx, "will try a mail again", "mail", k.sent.Subject(r.OrderID), "tries", r.Tries, "in", pause.Round(time.Millisecond), "error", failed)
	return nil
}
