package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// dump tells what is left to do, after a failure.
func (c *chaos) dump() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out strings.Builder
	js := c.sys.JetStream()
	for _, d := range app.Durables() {
		if consumer, err := js.Consumer(ctx, d.Stream, d.Name); err == nil {
			info := consumer.CachedInfo()
			fmt.Fprintf(&out, "consumer %s: %d pending, %d ack-pending, %d redelivered, ack floor %+v\n",
				d.Name, info.NumPending, info.NumAckPending, info.NumRedelivered, info.AckFloor)
		}
	}
	for id, events := range systemtest.Read(c.t, js).Orders {
		why := systemtest.Closed(events)
		if why == nil {
			continue
		}
		fmt.Fprintf(&out, "order %s %v\n", id, why)
		for _, e := range events {
			fmt.Fprintf(&out, "  %6d %s %s\n", e.Sequence, e.Time.Format(time.StampMilli), e.Type)
		}
		dumpSubjects(ctx, &out, js, stream.DeadlinesStream, "deadlines.*."+id)
		dumpSubjects(ctx, &out, js, stream.OrdersStream, "redrive.*.*.*."+id)
	}
	return out.String()
}

// dumpSubjects lists the messages on a filter's subjects.
func dumpSubjects(ctx context.Context, out *strings.Builder, js jetstream.JetStream, name, filter string) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	for seq := uint64(1); ; {
		m, err := s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(filter))
		if err != nil {
			return
		}
		fmt.Fprintf(out, "  %s %6d %s %s %s %s\n", name, m.Sequence, m.Time.Format(time.StampMilli), m.Subject, m.Header.Get("Nats-Schedule"), m.Data)
		seq = m.Sequence + 1
	}
}
