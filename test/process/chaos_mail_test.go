package process

import (
	"context"
	"fmt"
	"io"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/test/systemtest"
)

// sent is one time that a mail was sent.
type sent struct {
	by int // the number of notify's replica
	at time.Time
}

func (s sent) String() string { return fmt.Sprintf("by notify %d at %s", s.by, clock(s.at)) }

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// listenForMail has a mail server take the mails of one replica, so that the test
// knows who has sent which, and returns its address.
func (c *chaos) listenForMail(r *replica) string {
	l := listen(c.t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go c.takeMail(textproto.NewConn(conn), r)
		}
	}()
	return l.Addr().String()
}

// takeMail is the mail server's part of one connection.
func (c *chaos) takeMail(conn *textproto.Conn, r *replica) {
	defer func() { _ = conn.Close() }()
	for answer := "220 mail.example ready"; ; {
		if conn.PrintfLine("%s", answer) != nil {
			return
		}
		command, err := conn.ReadLine()
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(command), " ")
		if verb == "DATA" {
			if conn.PrintfLine("354 go ahead") != nil {
				return
			}
			m, err := mail.ReadMessage(conn.DotReader())
			if err == nil {
				_, err = io.Copy(io.Discard, m.Body)
			}
			if err != nil { // its sender died on the way
				return
			}
			id := strings.Trim(m.Header.Get("Message-Id"), "<>")
			if !c.effect(r, "mail", id, func() { c.keepMail(id, r) }) {
				return
			}
		}
		answer = "250 ok"
	}
}

func (c *chaos) keepMail(id string, r *replica) {
	c.mu.Lock()
	c.mails[id] = append(c.mails[id], sent{r.number, time.Now()})
	c.mu.Unlock()
	_ = c.world.Send(context.Background(), outbox.Mail{ID: id}) // for who audits the world
}

// auditMails wants every mail of which the stream says that it was sent, and no
// other, and each of them once.
//
// The one way in which a mail may be sent again is the window between the mail and
// the fact that tells of it: the fact is not stored in time, because the sender is
// killed or frozen or NATS is away, and the event is delivered again. So each
// repetition needs a reason of its own, between the event and the fact: the kill of
// a replica that sent this mail, a time in which one of them was frozen, or an
// outage of NATS. Where the two are further apart than AckWait, the machine was too
// slow, and each AckWait is a reason. A mail that was sent again after its fact was
// stored, by who was not frozen before that, has none.
func (c *chaos) auditMails(l systemtest.Ledger) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	facts := map[string]bool{}
	again, slow := 0, 0
	for id, events := range l.Orders {
		for cause, fact := range letters {
			asked, ok := event.Find(events, cause)
			told, said := event.Find(events, fact)
			if !ok || !said {
				continue // that it should be there is part of the order's audit
			}
			key := notify.MessageID(fact, id)
			facts[key] = true
			mails := c.mails[key]
			again += len(mails) - 1
			because := c.because(mails, asked.Time, told.Time)
			waits := int(told.Time.Sub(asked.Time) / ackWait)
			switch {
			case len(mails) == 0:
				c.t.Errorf("mail %s was never sent", key)
			case len(mails) > 1+because+waits:
				c.t.Errorf("mail %s was sent %d times, %v, with %d reasons between %s and %s",
					key, len(mails), mails, because+waits, clock(asked.Time), clock(told.Time))
			case len(mails) > 1+because:
				slow++
			}
		}
	}
	for key := range c.mails {
		if !facts[key] {
			c.t.Errorf("mail %s was sent, and the stream does not know", key)
		}
	}
	c.t.Logf("%d mails, %d times one was sent again, of which %d because it took longer than AckWait", len(facts), again, slow)
}

// because counts what may have made who sent a mail send it again.
func (c *chaos) because(mails []sent, asked, told time.Time) (reasons int) {
	for _, o := range c.outages {
		from := asked
		if !o.frozen && len(mails) > 0 {
			from = mails[0].at.Add(-inTransit) // it was sent, and the fact did not follow
		}
		if o.until.Before(from) || o.from.After(told) {
			continue
		}
		if o.number == ofNATS || slices.ContainsFunc(mails, func(m sent) bool { return m.by == o.number }) {
			reasons++
		}
	}
	return reasons
}

// inTransit is how long after its sender's death a mail may come in.
const inTransit = 250 * time.Millisecond
