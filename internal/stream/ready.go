package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// duties are the parts of a service's work that cannot be done now.
type duties struct {
	mu       sync.Mutex
	failing  map[string]*failing // by part
	durables map[string]Durable  // whose consumers must exist, by stream
	follows  *Position           // where the fold was at its last check; nil if there is no fold
}

// failing is why a part of the work cannot be done.
type failing struct {
	reason error
	since  time.Time
	logged map[string]bool // reasons, each of which is logged once
}

// maxReasons bounds the reasons that are logged until the part can be done again.
const maxReasons = 10

// Duty records that the service can do a part of its work (reason is nil), or why it
// cannot. Ready returns the reason. The log has it once, and the recovery once, with the
// time in between.
func (c *Client) Duty(part string, reason error) {
	d := &c.duties
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.failing[part]
	switch {
	case reason == nil && f != nil:
		delete(d.failing, part)
		if len(f.logged) > 0 {
			c.log.Info("ready again", "part", part, "after", time.Since(f.since).Round(time.Millisecond))
		}
		return
	case reason == nil:
		return
	case f == nil:
		f = &failing{since: time.Now(), logged: map[string]bool{}}
		d.failing[part] = f
	}
	f.reason = reason
	if text := reason.Error(); !f.logged[text] && len(f.logged) < maxReasons {
		f.logged[text] = true
		c.log.Warn("not ready", "part", part, "error", reason)
	}
}

// Preparing records that the service cannot do a part of its work yet, until [Client.Duty]
// records otherwise. That is no failure: the log does not have it.
func (c *Client) Preparing(part string, reason error) {
	d := &c.duties
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing[part] == nil {
		d.failing[part] = &failing{since: time.Now(), logged: map[string]bool{}}
	}
	d.failing[part].reason = reason
}

// dismiss forgets a part of the work that this replica need not do any more.
func (c *Client) dismiss(part string) {
	c.duties.mu.Lock()
	defer c.duties.mu.Unlock()
	delete(c.duties.failing, part)
}

// Names of duties.
const (
	dutyConsume = "consumer of " // a stream
	DutyFollow  = "fold"         // of Follow and AwaitExtent; a caller that gives it up clears it
)

// following records where the fold is. nil: this replica folds nothing now.
func (c *Client) following(at *Position) {
	c.duties.mu.Lock()
	defer c.duties.mu.Unlock()
	c.duties.follows = at
}

// Ready returns nil if the server, the stream ORDERS and the durables that Consume
// works on can be reached, the fold follows that stream, and no [Client.Duty] has a
// reason. Otherwise it returns the reason.
func (c *Client) Ready(ctx context.Context) error {
	if !c.nc.IsConnected() {
		return fmt.Errorf("no connection to NATS (%s)", strings.ToLower(c.nc.Status().String()))
	}
	c.duties.mu.Lock()
	durables, follows := maps.Clone(c.duties.durables), c.duties.follows // before the stream is asked, which only grows
	var failing error
	for part, f := range c.duties.failing {
		failing = errors.Join(failing, fmt.Errorf("%s: %w", part, f.reason))
	}
	c.duties.mu.Unlock()
	extent, err := c.extent(ctx)
	if err != nil {
		return err
	}
	if failing != nil {
		return failing
	}
	if follows != nil && (!follows.Created.Equal(extent.Created) || follows.Sequence > extent.Last) {
		return fmt.Errorf("fold: %w, and is not followed yet", ErrReplaced)
	}
	for _, d := range durables {
		if _, err := c.consumer(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// consumer finds the durable's consumer.
func (c *Client) consumer(ctx context.Context, d Durable) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	consumer, err := c.js.Consumer(ctx, d.Stream, d.Name)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, missing("stream "+d.Stream, err)
		}
		return nil, missing("consumer "+d.Name+" of stream "+d.Stream, err)
	}
	return consumer, nil
}
