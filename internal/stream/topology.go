package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/event"
)

// Names of the streams and buckets that Provision creates.
const (
	OrdersStream      = "ORDERS"
	DeadlinesStream   = "DEADLINES"
	MailsStream       = "MAILS"
	DeadLettersStream = "DEADLETTERS"
	LeasesBucket      = "LEASES"
	AnalyticsBucket   = "ANALYTICS"
	StockBucket       = "STOCK"
)

// Topology configures Provision.
type Topology struct {
	Replicas int           // of every stream, 1 or 3; default 1
	AckWait  time.Duration // until a message whose consumer died is delivered again; default 10 s
	LeaseTTL time.Duration // until the lease of a writer that died expires; default 3 s
	Durables []Durable

	// Report is called with each setting of an existing stream that Provision
	// corrected, one line each; default: none.
	Report func(change string)
}

const (
	defaultAckWait  = 10 * time.Second
	defaultLeaseTTL = 3 * time.Second

	duplicateWindow = time.Hour // how long an Idempotency-Key is remembered
	deadlinesMaxAge = 24 * time.Hour
	maxAckPending   = 1000 // unacknowledged messages of one durable, over all replicas
)

// Provision creates the streams, consumers and buckets, and corrects those that
// exist. It needs an administrator's permissions; the services do not.
//
// A limit on the size of ORDERS or DEADLETTERS is the operator's, and stays. What
// exceeds it is refused.
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
			// The server's default would make room for a new event by dropping the oldest ones.
			Discard: jetstream.DiscardNew,
		},
		// Schedules have a stream of their own: where they are allowed, so are rollups
		// and purges, and a publisher can make the server write on any of its subjects. The
		// server allows DiscardOld only, so a limit would drop deadlines: it has none.
		{
			Name:              DeadlinesStream,
			Description:       "When each order has to be concluded",
			Subjects:          []string{event.DeadlineAt.Every(), event.DeadlineDue.Every()},
			MaxAge:            deadlinesMaxAge,
			AllowMsgSchedules: true,
		},
		// A mail must not be lost because notify was away for long, so nothing expires here: a
		// message leaves the stream when notify has acknowledged it.
		{
			Name:              MailsStream,
			Description:       "Mails to try again later",
			Subjects:          []string{"mails.at.*.*", "mails.due.*.*"},
			Retention:         jetstream.WorkQueuePolicy,
			AllowMsgSchedules: true,
		},
		{
			Name:        DeadLettersStream,
			Description: "Messages that a consumer gave up, until they are sent again",
			Subjects:    []string{event.DeadLetter("*", "*")},
			AllowDirect: true,
			Discard:     jetstream.DiscardNew,
		},
	} {
		s.Storage, s.Replicas = jetstream.FileStorage, t.Replicas
		if err := provisionStream(ctx, js, s, t.Report); err != nil {
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
		{Bucket: StockBucket, Description: "Snapshots of the stock, each with the sequence that it covers"},
	} {
		b.Storage, b.Replicas = jetstream.FileStorage, t.Replicas
		if _, err := js.CreateOrUpdateKeyValue(ctx, b); err != nil {
			return fmt.Errorf("provision bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}

// provisionStream creates a stream, or corrects it and reports the changes.
func provisionStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, report func(string)) error {
	existing, err := js.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = js.CreateOrUpdateStream(ctx, cfg) // another provision may come first
		return err
	case err != nil:
		return err
	}
	was := existing.CachedInfo().Config
	if cfg.Discard == jetstream.DiscardNew {
		cfg.MaxBytes, cfg.MaxMsgs = was.MaxBytes, was.MaxMsgs
	}
	updated, err := js.UpdateStream(ctx, cfg)
	if err != nil {
		return err
	}
	if report != nil {
		for _, change := range changes(was, updated.CachedInfo().Config) {
			report("stream " + cfg.Name + ": " + change)
		}
	}
	return nil
}

// changes lists the settings that differ, by their names in the server's API.
func changes(was, is jetstream.StreamConfig) (lines []string) {
	was.Metadata, is.Metadata = nil, nil // the server's version
	before, after := settings(was), settings(is)
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if b, a := cmp.Or(string(before[name]), "unset"), cmp.Or(string(after[name]), "unset"); b != a {
			lines = append(lines, fmt.Sprintf("%s was %s, is %s", name, b, a))
		}
	}
	return lines
}

func settings(cfg jetstream.StreamConfig) (byName map[string]json.RawMessage) {
	encoded, err := json.Marshal(cfg)
	if err == nil {
		err = json.Unmarshal(encoded, &byName)
	}
	if err != nil {
		return nil // a configuration that the server sent can be encoded
	}
	return byName
}
