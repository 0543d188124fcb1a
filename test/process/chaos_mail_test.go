package process

import (
	"context"
	"io"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
)

// sent is one time that a mail was sent.
type sent struct {
	by int // the number of notify's replica
	at time.Time
}

// listenForMail starts a mail server for one replica, so that the test knows which
// replica sent a mail, and returns its address.
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
			if err != nil { // its sender died
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
	_ = c.world.Send(context.Background(), outbox.Mail{ID: id})
}

// mostMails is how often a mail may have been sent.
//
// It may be sent again only if the event that records it is not stored in time, because
// its sender is killed or frozen or NATS is away, and the event that caused it is
// delivered again. So each repetition needs a reason between the two events: the kill
// of a replica that sent this mail, a time in which one of them was frozen, or an outage
// of NATS. Where the two are further apart than AckWait, the machine was too slow, and
// each AckWait is a reason.
func (c *chaos) mostMails(mail string, cause, fact event.Event) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	mails := c.mails[mail]
	most := 1 + int(fact.Time.Sub(cause.Time)/ackWait)
	for _, o := range c.outages {
		from := cause.Time
		if !o.frozen && len(mails) > 0 {
			from = mails[0].at.Add(-inTransit) // it was sent, and its event did not follow
		}
		if o.until.Before(from) || o.from.After(fact.Time) {
			continue
		}
		if o.number == ofNATS || slices.ContainsFunc(mails, func(m sent) bool { return m.by == o.number }) {
			most++
		}
	}
	return most
}

// inTransit is how long after its sender's death a mail may come in.
const inTransit = 250 * time.Millisecond
