package test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func TestKeyValue(t *testing.T) {
	tap := newTap(sdktrace.AlwaysSample())
	ctx, caller := tap.provider.Tracer("test").Start(context.Background(), "caller")
	bucket, err := mustJetStream(t).CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "settings", History: 2})
	if err != nil {
		t.Fatal(err)
	}
	kv := tap.KeyValue(bucket)
	var entry jetstream.KeyValueEntry
	var revision uint64
	for _, step := range []struct {
		span string
		do   func() error
		want error
	}{
		{"get settings", func() (err error) { _, err = kv.Get(ctx, "currency"); return }, jetstream.ErrKeyNotFound},
		{"create settings", func() (err error) { revision, err = kv.Create(ctx, "currency", []byte("EUR")); return }, nil},
		{"create settings", func() (err error) { _, err = kv.Create(ctx, "currency", []byte("USD")); return }, jetstream.ErrKeyExists},
		{"update settings", func() (err error) { _, err = kv.Update(ctx, "currency", []byte("CHF"), revision); return }, nil},
		{"update settings", func() (err error) { _, err = kv.Update(ctx, "currency", []byte("USD"), revision); return }, jetstream.ErrKeyRevisionMismatch},
		{"get settings", func() (err error) { entry, err = kv.GetRevision(ctx, "currency", revision); return }, nil},
		{"put settings", func() (err error) { _, err = kv.Put(ctx, "language", []byte("de")); return }, nil},
		{"put settings", func() (err error) { _, err = kv.PutString(ctx, "language", "fr"); return }, nil},
		{"delete settings", func() error { return kv.Delete(ctx, "language") }, nil},
		{"purge settings", func() error { return kv.Purge(ctx, "language") }, nil},
		{"get settings", func() (err error) { entry, err = kv.Get(ctx, "currency"); return }, nil},
	} {
		before := len(tap.spans.Ended())
		err := step.do()
		if !errors.Is(err, step.want) {
			t.Fatalf("%s: error %v, want %v", step.span, err, step.want)
		}
		ended := tap.spans.Ended()[before:]
		if len(ended) != 1 || ended[0].Name() != step.span || ended[0].SpanKind() != trace.SpanKindClient {
			t.Fatalf("%s: the spans are %v", step.span, ended)
		}
		wantChild(t, ended[0], caller.SpanContext())
		failed := step.want != nil && step.want == jetstream.ErrKeyRevisionMismatch
		want := map[string]string{"db.system.name": "nats", "db.operation.name": step.span[:len(step.span)-len(" settings")],
			"db.collection.name": "settings", "server.address": "nats.example", "error.type": ""}
		if failed {
			want["error.type"] = "wrong_last_sequence"
		}
		for key, value := range want {
			if got := attr(ended[0].Attributes(), key); got != value {
				t.Errorf("%s: %s is %q, want %q", step.span, key, got, value)
			}
		}
		if (ended[0].Status().Code == codes.Error) != failed {
			t.Errorf("%s: status %v after %v", step.span, ended[0].Status(), err)
		}
	}
	if string(entry.Value()) != "CHF" {
		t.Errorf("the value is %q, want CHF", entry.Value())
	}
	if kv.Bucket() != "settings" {
		t.Errorf("the bucket is %q", kv.Bucket())
	}
}
