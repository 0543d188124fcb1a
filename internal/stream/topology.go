package stream

import (
	"bytes"
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
	Replicas int           // of every stream and bucket, 1, 3 or 5; default: what it has, 1 for a new one
	AckWait  time.Duration // until a message whose consumer died is delivered again; default 10 s
	LeaseTTL time.Duration // until the lease of a writer that died expires; default 3 s
	Durables []Durable

	// Report is called with each setting of an existing stream, consumer or bucket that
	// Provision corrected, one line each; default: none.
	Report func(change string)

	// Warn is called if ORDERS has one replica on a cluster and Replicas is 0; default: none.
	Warn func(warning string)
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
// exceeds it is refused. The placement of a stream is the operator's, too.
func Provision(ctx context.Context, js jetstream.JetStream, t Topology) error {
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
		if err := t.stream(ctx, js, s); err != nil {
			return fmt.Errorf("provision stream %s: %w", s.Name, err)
		}
	}
	for _, d := range t.Durables {
		filters := d.Filters()
		if d.Stream == OrdersStream {
			filters = append(filters, event.Redrive(d.Name, ">"))
		}
		if err := t.consumer(ctx, js, d.Stream, jetstream.ConsumerConfig{
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
		if err := t.bucket(ctx, js, b); err != nil {
			return fmt.Errorf("provision bucket %s: %w", b.Bucket, err)
		}
	}
	return t.checkReplicas(ctx, js)
}

// checkReplicas warns if ORDERS has one replica on a cluster. The number of servers is
// unknown: a server advertises several addresses, and only system accounts may ask for more.
func (t Topology) checkReplicas(ctx context.Context, js jetstream.JetStream) error {
	cluster := js.Conn().ConnectedClusterName()
	if cluster == "" || t.Replicas != 0 || t.Warn == nil {
		return nil
	}
	orders, err := js.Stream(ctx, OrdersStream)
	if err != nil {
		return fmt.Errorf("provision stream %s: %w", OrdersStream, err)
	}
	if orders.CachedInfo().Config.Replicas == 1 {
		t.Warn(fmt.Sprintf("stream %s has one replica on the cluster %s: if its server stops, so does the shop. On three servers or more, set STREAM_REPLICAS=3", OrdersStream, cluster))
	}
	return nil
}

// stream creates a stream, or corrects it and reports the changes.
func (t Topology) stream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) error {
	existing, err := js.Stream(ctx, cfg.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		cfg.Replicas = max(cfg.Replicas, 1)
		_, err = js.CreateOrUpdateStream(ctx, cfg) // another provision may come first
		return err
	case err != nil:
		return err
	}
	was := existing.CachedInfo().Config
	cfg.Replicas, cfg.Placement = cmp.Or(cfg.Replicas, was.Replicas), was.Placement
	if cfg.Discard == jetstream.DiscardNew {
		cfg.MaxBytes, cfg.MaxMsgs = was.MaxBytes, was.MaxMsgs
	}
	updated, err := js.UpdateStream(ctx, cfg)
	if err != nil {
		return err
	}
	t.report("stream "+cfg.Name, was, updated.CachedInfo().Config)
	return nil
}

// consumer creates a durable consumer, or corrects it and reports the changes. Without
// a number of its own, it has as many replicas as its stream.
func (t Topology) consumer(ctx context.Context, js jetstream.JetStream, of string, cfg jetstream.ConsumerConfig) error {
	existing, err := js.Consumer(ctx, of, cfg.Durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	if existing != nil && t.Replicas == 0 {
		cfg.Replicas = existing.CachedInfo().Config.Replicas
	}
	updated, err := js.CreateOrUpdateConsumer(ctx, of, cfg)
	if err == nil && existing != nil {
		t.report("consumer "+cfg.Durable, existing.CachedInfo().Config, updated.CachedInfo().Config)
	}
	return err
}

// bucket creates a bucket, or corrects it and reports the changes.
func (t Topology) bucket(ctx context.Context, js jetstream.JetStream, cfg jetstream.KeyValueConfig) error {
	existing, err := js.Stream(ctx, "KV_"+cfg.Bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateOrUpdateKeyValue(ctx, cfg)
		return err
	}
	if err != nil {
		return err
	}
	was := existing.CachedInfo().Config
	cfg.Replicas, cfg.Placement = cmp.Or(cfg.Replicas, was.Replicas), was.Placement
	if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
		return err
	}
	updated, err := existing.Info(ctx)
	if err == nil {
		t.report("bucket "+cfg.Bucket, was, updated.Config)
	}
	return err
}

// report reports the settings that differ, by their names in the server's API.
func (t Topology) report(what string, was, is any) {
	if t.Report == nil {
		return
	}
	before, after := settings(was), settings(is)
	names := maps.Clone(before)
	maps.Copy(names, after)
	delete(names, "metadata") // the server's version
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if b, a := cmp.Or(string(before[name]), "unset"), cmp.Or(string(after[name]), "unset"); b != a {
			t.Report(fmt.Sprintf("%s: %s was %s, is %s", what, name, b, a))
		}
	}
}

func settings(cfg any) (byName map[string]json.RawMessage) {
	var encoded bytes.Buffer
	e := json.NewEncoder(&encoded)
	e.SetEscapeHTML(false) // subjects contain >
	err := e.Encode(cfg)
	if err == nil {
		err = json.Unmarshal(encoded.Bytes(), &byName)
	}
	if err != nil {
		return nil // a configuration that the server sent can be encoded
	}
	return byName
}
