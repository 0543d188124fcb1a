package stream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// Names of what Provision makes.
const (
	OrdersStream      = "ORDERS"
	DeadlinesStream   = "DEADLINES"
	DeadLettersStream = "DEADLETTERS"
	LeasesBucket      = "LEASES"
	AnalyticsBucket   = "ANALYTICS"
)

// Durable is a durable consumer, shared by all replicas of a service.
type Durable struct {
	Name    string   // the service's
	Stream  string   // that it is on
	Filters []string // subjects that it consumes; from ORDERS also what is sent to it again
}

// Topology is how streams, consumers and buckets are made.
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
	maxAckPending   = 1000 // messages of one durable under way, over all replicas
)

// Provision makes what is missing and brings what is there in line. It needs an
// administrator's permissions; the services themselves need none of them.
func Provision(ctx context.Context, js jetstream.JetStream, t Topology) error {
	t.Replicas = max(t.Replicas, 1)
	if t.AckWait == 0 {
		t.AckWait = defaultAckWait
	}
	if t.LeaseTTL == 0 {
		t.LeaseTTL = defaultLeaseTTL
	}

	// The stream is the state: nothing may leave it. A guard would open again if
	// its message were deleted or expired, hence no MaxAge, and no TTLs, rollups or
	// schedules, which would also let a publisher write on others' subjects.
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        OrdersStream,
		Description: "Every event of every order, for ever",
		Subjects:    []string{"orders.>", "payments.>", "inventory.>", "fulfillment.>", "notify.>", "stock.>", "redrive.>"},
		Storage:     jetstream.FileStorage,
		Replicas:    t.Replicas,
		Duplicates:  duplicateWindow,
		AllowDirect: true,
		DenyDelete:  true,
		DenyPurge:   true,
	}); err != nil {
		return fmt.Errorf("provision stream %s: %w", OrdersStream, err)
	}
	// Schedules have a stream of their own. Where they are allowed, so are rollups
	// and purges, and a publisher can have the server write on any of the stream's
	// subjects.
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              DeadlinesStream,
		Description:       "When each order has to be concluded",
		Subjects:          []string{event.DeadlineAt.Every(), event.DeadlineDue.Every()},
		Storage:           jetstream.FileStorage,
		Replicas:          t.Replicas,
		MaxAge:            deadlinesMaxAge,
		AllowMsgSchedules: true,
	}); err != nil {
		return fmt.Errorf("provision stream %s: %w", DeadlinesStream, err)
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        DeadLettersStream,
		Description: "What could not be handled, until it is sent again",
		Subjects:    []string{event.DeadLetter("*", "*")},
		Storage:     jetstream.FileStorage,
		Replicas:    t.Replicas,
		AllowDirect: true,
	}); err != nil {
		return fmt.Errorf("provision stream %s: %w", DeadLettersStream, err)
	}
	for _, d := range t.Durables {
		filters := slices.Clone(d.Filters)
		if d.Stream == OrdersStream {
			filters = append(filters, event.Redrive(d.Name, ">"))
		}
		if _, err := js.CreateOrUpdateConsumer(ctx, d.Stream, jetstream.ConsumerConfig{
			Durable:        d.Name,
			FilterSubjects: filters,
			AckPolicy:      jetstream.AckExplicitPolicy,
			AckWait:        t.AckWait,
			MaxDeliver:     -1, // the consume loop counts: what the server gives up is silently stuck
			MaxAckPending:  maxAckPending,
		}); err != nil {
			return fmt.Errorf("provision consumer %s: %w", d.Name, err)
		}
	}
	for _, b := range []jetstream.KeyValueConfig{
		{Bucket: LeasesBucket, Description: "Who is the active writer", TTL: t.LeaseTTL},
		{Bucket: AnalyticsBucket, Description: "Aggregates, with the sequence they are good for"},
	} {
		b.Storage, b.Replicas = jetstream.FileStorage, t.Replicas
		if _, err := js.CreateOrUpdateKeyValue(ctx, b); err != nil {
			return fmt.Errorf("provision bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}
