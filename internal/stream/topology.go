package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// Names of the streams and buckets that Provision creates.
const (
	OrdersStream      = "ORDERS"
	DeadlinesStream   = "DEADLINES"
	DeadLettersStream = "DEADLETTERS"
	LeasesBucket      = "LEASES"
	AnalyticsBucket   = "ANALYTICS"
)

// Topology configures Provision.
type Topology struct {
	Replicas int           // of every stream, 1 or 3; default 1
	AckWait  time.Duration // until a message whose consumer died is delivered again; default 10 s
	LeaseTTL time.Duration // until the lease of a writer that died expires; default 3 s
	Durables []Durable
}

const (
	defaultAckWait  = 10 * time.Second
	defaultLeaseTTL = 3 * time.Second

	duplicateWindow = time.Hour // how long an Idempotency-Key is remembered
	deadlinesMaxAge = 24 * time.Hour
	maxAckPending   = 1000 // unacknowledged messages of one durable, over all replicas
)

// Provision creates the streams, consumers and buckets, and updates those that
// exist. It needs an administrator's permissions; the services do not.
func Provision(ctx context.Context, js jetstream.JetStream, t Topology) error {
	t.Replicas = max(t.Replicas, 1)
	if t.AckWait == 0 {
		t.AckWait = defaultAckWait
	}
	if t.LeaseTTL == 0 {
		t.LeaseTTL = defaultLeaseTTL
	}
	for _, s := range []jetstream.StreamConfig{
		// The stream is the state: no event may leave it. A guard would open again if
		// its message were deleted or expired, hence no MaxAge and no TTLs. Rollups and
		// schedules would also let a publisher write on the subjects of others.
		{
			Name:        OrdersStream,
			Description: "Every event of every order, for ever",
			Subjects:    []string{"orders.>", "payments.>", "inventory.>", "fulfillment.>", "notify.>", "stock.>", "redrive.>"},
			Duplicates:  duplicateWindow,
			AllowDirect: true,
			DenyDelete:  true,
			DenyPurge:   true,
		},
		// Schedules have a stream of their own: where they are allowed, so are rollups
		// and purges, and a publisher can make the server write on any of its subjects.
		{
			Name:              DeadlinesStream,
			Description:       "When each order has to be concluded",
			Subjects:          []string{event.DeadlineAt.Every(), event.DeadlineDue.Every()},
			MaxAge:            deadlinesMaxAge,
			AllowMsgSchedules: true,
		},
		{
			Name:        DeadLettersStream,
			Description: "Messages that a consumer gave up, until they are sent again",
			Subjects:    []string{event.DeadLetter("*", "*")},
			AllowDirect: true,
		},
	} {
		s.Storage, s.Replicas = jetstream.FileStorage, t.Replicas
		if _, err := js.CreateOrUpdateStream(ctx, s); err != nil {
			return fmt.Errorf("provision stream %s: %w", s.Name, err)
		}
	}
	for _, d := range t.Durables {
		filters := d.Filters()
		if d.Stream == OrdersStream {
			filters = append(filters, event.Redrive(d.Name, ">"))
		}
		if _, err := js.CreateOrUpdateConsumer(ctx, d.Stream, jetstream.ConsumerConfig{
			Durable:        d.Name,
			FilterSubjects: filters,
			AckPolicy:      jetstream.AckExplicitPolicy,
			AckWait:        t.AckWait,
			MaxDeliver:     -1, // Consume counts: a message that the server gives up is stuck, without a word
			MaxAckPending:  maxAckPending,
		}); err != nil {
			return fmt.Errorf("provision consumer %s: %w", d.Name, err)
		}
	}
	for _, b := range []jetstream.KeyValueConfig{
		{Bucket: LeasesBucket, Description: "Who is the active writer", TTL: t.LeaseTTL},
		{Bucket: AnalyticsBucket, Description: "Aggregates, each with the sequence that it covers"},
	} {
		b.Storage, b.Replicas = jetstream.FileStorage, t.Replicas
		if _, err := js.CreateOrUpdateKeyValue(ctx, b); err != nil {
			return fmt.Errorf("provision bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}
