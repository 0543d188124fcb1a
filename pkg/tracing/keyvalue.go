package tracing

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// KeyValue returns kv with a CLIENT span for each Get, GetRevision, Put, PutString,
// Create, Update, Delete and Purge, for instance "put settings". It follows the semantic
// conventions for databases: the bucket is db.collection.name. Keys are not recorded,
// because they may be data. That a key does not exist, or for Create that it does, is an
// answer, not a failure.
//
// The other methods are those of kv. The entries of a bucket have no headers, so a reader
// or watcher cannot link the span that put one. If that matters, publish to a stream.
func (t *Tracer) KeyValue(kv jetstream.KeyValue) jetstream.KeyValue {
	return &tracedKeyValue{KeyValue: kv, tracer: t}
}

type tracedKeyValue struct {
	jetstream.KeyValue
	tracer *Tracer
}

func (kv *tracedKeyValue) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	return inBucket(ctx, kv, "get", func(ctx context.Context) (jetstream.KeyValueEntry, error) { return kv.KeyValue.Get(ctx, key) })
}

func (kv *tracedKeyValue) GetRevision(ctx context.Context, key string, revision uint64) (jetstream.KeyValueEntry, error) {
	return inBucket(ctx, kv, "get", func(ctx context.Context) (jetstream.KeyValueEntry, error) {
		return kv.KeyValue.GetRevision(ctx, key, revision)
	})
}

func (kv *tracedKeyValue) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return inBucket(ctx, kv, "put", func(ctx context.Context) (uint64, error) { return kv.KeyValue.Put(ctx, key, value) })
}

func (kv *tracedKeyValue) PutString(ctx context.Context, key, value string) (uint64, error) {
	return kv.Put(ctx, key, []byte(value))
}

func (kv *tracedKeyValue) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	return inBucket(ctx, kv, "create", func(ctx context.Context) (uint64, error) { return kv.KeyValue.Create(ctx, key, value, opts...) })
}

func (kv *tracedKeyValue) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return inBucket(ctx, kv, "update", func(ctx context.Context) (uint64, error) { return kv.KeyValue.Update(ctx, key, value, revision) })
}

func (kv *tracedKeyValue) Delete(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := inBucket(ctx, kv, "delete", func(ctx context.Context) (any, error) { return nil, kv.KeyValue.Delete(ctx, key, opts...) })
	return err
}

func (kv *tracedKeyValue) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := inBucket(ctx, kv, "purge", func(ctx context.Context) (any, error) { return nil, kv.KeyValue.Purge(ctx, key, opts...) })
	return err
}

// inBucket calls do in the span of one operation.
func inBucket[T any](ctx context.Context, kv *tracedKeyValue, operation string, do func(context.Context) (T, error)) (T, error) {
	bucket := kv.Bucket()
	ctx, span := kv.tracer.tracer.Start(ctx, operation+" "+bucket, client,
		trace.WithAttributes(semconv.DBSystemNameKey.String("nats"), semconv.DBOperationName(operation), semconv.DBCollectionName(bucket)),
		trace.WithAttributes(kv.tracer.serverAddress()...))
	defer span.End()
	answer, err := do(ctx)
	answered := errors.Is(err, jetstream.ErrKeyNotFound) || operation == "create" && errors.Is(err, jetstream.ErrKeyExists)
	if err != nil && !answered {
		class := errorType(err)
		span.SetAttributes(semconv.ErrorTypeKey.String(class))
		span.SetStatus(codes.Error, class)
	}
	return answer, err
}
