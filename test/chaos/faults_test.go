package chaos

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/outbox"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// pass lets a replica pass a point, where a fault of the plan may strike. The service's
// own code calls it, and waits until it returns.
func (c *chaos) pass(point string, r *replica, sent ...byte) {
	c.later.begin() // first, so that a caller that waits after becalm also waits for a fault that strikes now
	defer c.later.end()
	if c.calm.Err() != nil {
		return
	}
	f, ok := c.points.Pass(point)
	if !ok {
		return
	}
	sending := strings.HasPrefix(point, "send ")
	if f.target != "" {
		if r = c.alive(f.target, f.turn); r == nil {
			return
		}
	}
	c.mu.Lock()
	c.struck = append(c.struck, fmt.Sprintf("%s of %s at %s, %v", f.kind, r.service, point, f.hold))
	c.mu.Unlock()
	c.strike(f, r, sending, sent)
}

// errands counts what is under way. Unlike a [sync.WaitGroup], something may begin while
// a goroutine waits.
type errands struct {
	mu    sync.Mutex
	n     int
	ended chan struct{} // closed when n becomes 0; nil if no goroutine waits
}

func (e *errands) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
}

func (e *errands) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 && e.ended != nil {
		close(e.ended)
		e.ended = nil
	}
}

// Go calls do in another goroutine.
func (e *errands) Go(do func()) {
	e.begin()
	go func() {
		defer e.end()
		do()
	}()
}

// Wait waits until nothing is under way.
func (e *errands) Wait() {
	e.mu.Lock()
	if e.n == 0 {
		e.mu.Unlock()
		return
	}
	if e.ended == nil {
		e.ended = make(chan struct{})
	}
	ended := e.ended
	e.mu.Unlock()
	<-ended
}

// strike makes a fault happen. While a client sends, the network itself is the caller: it
// can pause the client at once, and the rest of the fault follows in another goroutine.
func (c *chaos) strike(f fault, r *replica, sending bool, sent []byte) {
	<-r.up
	if sending {
		r.client.Pause()
	}
	now := func(do func()) {
		if sending {
			c.later.Go(do)
		} else {
			do()
		}
	}
	switch f.kind {
	case kill:
		now(func() { c.kill(r, f.hold) })
	case cut:
		now(func() { r.client.Cut(); r.client.Resume() })
	case stall:
		r.client.Pause()
		c.after(f.hold, r.client.Resume)
	case stale:
		id := string(orderID.Find(sent))
		c.later.Go(func() {
			resume := time.After(f.hold) // also if the other faults end earlier
			c.customers.Cancel(id)
			<-resume
			r.client.Resume()
		})
	case full:
		now(func() { c.fill(f.hold) })
		if sending {
			c.after(0, r.client.Resume)
		}
	case restart:
		if sending {
			c.after(0, r.client.Resume)
		}
		c.after(0, func() {
			if c.restartNATS != nil {
				c.restarting.Lock()
				defer c.restarting.Unlock()
				if err := c.restartNATS(); err != nil {
					c.t.Errorf("restart NATS: %v", err)
				}
			}
		})
	}
}

// fill makes the stream refuse new messages for a while, as an operator's limit does.
func (c *chaos) fill(hold time.Duration) {
	// If NATS does not answer in time, it may have set the limit nevertheless.
	_ = c.limit(func(messages uint64) int64 { return int64(messages) })
	c.after(hold, c.unlimit)
}

// unlimit removes the limit, as soon as NATS is available.
func (c *chaos) unlimit() {
	var err error
	for until := time.Now().Add(systemtest.Patience); time.Now().Before(until); <-time.After(20 * time.Millisecond) {
		if err = c.limit(func(uint64) int64 { return -1 }); err == nil {
			return
		}
	}
	c.t.Errorf("remove the stream's limit: %v", err)
}

func (c *chaos) limit(most func(messages uint64) int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := c.sys.JetStream().Stream(ctx, stream.OrdersStream)
	if err != nil {
		return err
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = most(s.CachedInfo().State.Msgs)
	_, err = c.sys.JetStream().UpdateStream(ctx, cfg)
	return err
}

var orderID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// kill ends a replica as SIGKILL would: nothing that it does from now on has any effect.
// Its successor starts later.
func (c *chaos) kill(r *replica, successor time.Duration) {
	if r.dead.Swap(true) {
		return
	}
	r.client.Kill()
	r.running.Kill()
	c.after(successor, func() { c.launch(r.service) })
}

// after does something later, or as soon as the faults have ended.
func (c *chaos) after(d time.Duration, do func()) {
	c.later.Go(func() {
		select {
		case <-time.After(d):
		case <-c.calm.Done():
		}
		do()
	})
}

// arrive returns the deliveries that a replica receives in place of one.
func (c *chaos) arrive(r *replica, durable string, m jetstream.Msg) []jetstream.Msg {
	c.mu.Lock()
	c.arrived[durable]++
	what, wait := c.plan.mishap(durable, c.arrived[durable])
	c.mu.Unlock()
	if c.calm.Err() != nil {
		what = nothing
	}
	if what == late {
		select {
		case <-time.After(wait):
		case <-c.calm.Done():
		}
	}
	if what == lost || r.dead.Load() {
		return nil
	}
	begin := func() {
		if durable == notify.Name {
			c.begin(m)
		}
	}
	begin()
	switch what {
	case deaf:
		return []jetstream.Msg{unheard{m}}
	case twice:
		return []jetstream.Msg{m, &repeated{Msg: m, begin: begin}}
	}
	return []jetstream.Msg{m}
}

// unheard is a message whose acknowledgement is lost.
type unheard struct{ jetstream.Msg }

func (unheard) Ack() error                       { return nil }
func (unheard) Nak() error                       { return nil }
func (unheard) NakWithDelay(time.Duration) error { return nil }
func (unheard) TermWithReason(string) error      { return nil }

// repeated is a message that is handled a second time.
type repeated struct {
	jetstream.Msg
	once  sync.Once
	begin func()
}

// Metadata is the first method that a handler calls.
func (r *repeated) Metadata() (*jetstream.MsgMetadata, error) {
	r.once.Do(r.begin)
	meta, err := r.Msg.Metadata()
	if err != nil {
		return nil, err
	}
	again := *meta
	again.NumDelivered++
	return &again, nil
}

// face is the world outside as one replica sees it. A killed replica cannot reach it.
type face struct {
	*systemtest.World
	chaos   *chaos
	replica *replica
}

func (c *chaos) face(service string) face { return face{c.world, c, c.latest(service)} }

var errDead = errors.New("the process is dead")

// effect does something outside, unless the replica is dead, and then passes the point.
func (f face) effect(name string, do func() error) error {
	if f.replica.dead.Load() {
		return errDead
	}
	if err := do(); err != nil {
		return err
	}
	f.chaos.pass(name, f.replica)
	return nil
}

func (f face) Charge(ctx context.Context, charge payments.Charge) (id string, err error) {
	err = f.effect("charge", func() error { id, err = f.World.Charge(ctx, charge); return err })
	return id, err
}

func (f face) Refund(ctx context.Context, key string) error {
	return f.effect("refund", func() error { return f.World.Refund(ctx, key) })
}

func (f face) Book(ctx context.Context, key, address string) (parcel string, err error) {
	err = f.effect("book", func() error { parcel, err = f.World.Book(ctx, key, address); return err })
	return parcel, err
}

func (f face) Cancel(ctx context.Context, key string) error {
	return f.effect("unbook", func() error { return f.World.Cancel(ctx, key) })
}

func (f face) Send(ctx context.Context, m outbox.Mail) error {
	return f.effect("mail", func() error { return f.World.Send(ctx, m) })
}

// mails observes the one effect that can happen twice: a handler that ends between the
// mail and the event that records it may leave a second mail behind. So each mail may
// be sent once per time that its event was handled before the stream recorded it. Both
// maps are by Message-ID.
type mails struct {
	recorded map[string]bool
	begun    map[string]int // how often its event was handled before that
}

func (c *chaos) begin(m jetstream.Msg) {
	_, subject, _ := event.CutRedrive(m.Subject())
	t, key, err := event.ParseSubject(subject)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := systemtest.Letters[t]
	for _, again := range event.OfMail {
		if t == event.MailDue(again) {
			sent = again
		}
	}
	if id := notify.MessageID(sent, key); !c.mails.recorded[id] {
		c.mails.begun[id]++
	}
}

func (c *chaos) recorded(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mails.recorded[id] = true
}
