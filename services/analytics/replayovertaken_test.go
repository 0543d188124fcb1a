package analytics_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/test/systemtest"
)

// interrupted is a bucket in which something happens once, just after a replay
// has read it or just before it writes.
type interrupted struct {
	jetstream.KeyValue
	afterRead bool
	do        func()
	once      sync.Once
}

func (i *interrupted) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	entry, err := i.KeyValue.Get(ctx, key)
	if i.afterRead {
		i.once.Do(i.do)
	}
	return entry, err
}

func (i *interrupted) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if !i.afterRead {
		i.once.Do(i.do)
	}
	return i.KeyValue.Update(ctx, key, value, revision)
}

// faster is a bucket in which somebody else always stores first.
type faster struct{ jetstream.KeyValue }

func (faster) Update(context.Context, string, []byte, uint64) (uint64, error) {
	return 0, jetstream.ErrKeyRevisionMismatch
}

// What is stored between a replay's last look and its write is not lost.
func TestReplayOvertaken(t *testing.T) {
	t.Parallel()
	sys := startReplaying(t)
	MustPlay(t, sys.counting, 2, "happy", "declined")
	sys.MustAwait(t)
	damage := func() {
		sys.MustPut(t, change(t, sys.MustStored(t), "mails", 1))
	}
	for _, c := range []struct {
		name    string
		do      func()
		differs bool
	}{
		{"ByTheService", func() { MustPlay(t, sys.counting, 1, "happy", "sold-out"); sys.MustAwait(t) }, false},
		{"ByDamage", damage, true},
		{"ByDeletion", func() { sys.MustDelete(t) }, false},
		{"ByAnotherReplay", func() { sys.MustReplay(t) }, false},
		{"ByTheServiceAfterDamage", func() { damage(); MustPlay(t, sys.counting, 1, "happy"); sys.MustAwait(t) }, true},
	} {
		for at, afterRead := range map[string]bool{"AfterRead": true, "BeforeWrite": false} {
			t.Run(c.name+at, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
				defer cancel()
				result, err := analytics.ReplayOn(ctx, sys.operator, &interrupted{KeyValue: sys.kv, afterRead: afterRead, do: c.do})
				if err != nil {
					t.Fatal(err)
				}
				if got := len(result.Differences) > 0; got != c.differs {
					t.Errorf("differs: %t, want %t: %v", got, c.differs, result)
				}
				if got, want := result.AsOf, sys.MustLast(t); got != want {
					t.Errorf("replayed up to %d, want %d", got, want)
				}
				if again := sys.MustReplay(t); len(again.Differences) > 0 || again.Compared != result.AsOf {
					t.Errorf("replayed again: %v", again)
				}
			})
		}
	}
	t.Run("AlwaysAgain", func(t *testing.T) {
		before := sys.MustStored(t)
		ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
		defer cancel()
		_, err := analytics.ReplayOn(ctx, sys.operator, faster{sys.kv})
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "stop the service") {
			t.Errorf("replay = %v", err)
		}
		if got := sys.MustStored(t); got != before {
			t.Errorf("a replay that never got its turn changed %s to %s", before, got)
		}
	})
	t.Run("ByItsEnd", func(t *testing.T) {
		before := sys.MustStored(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if _, err := analytics.ReplayOn(ctx, sys.operator, &interrupted{KeyValue: sys.kv, do: cancel}); !errors.Is(err, context.Canceled) {
			t.Errorf("replay = %v, want %v", err, context.Canceled)
		}
		if got := sys.MustStored(t); got != before {
			t.Errorf("a replay that was stopped changed %s to %s", before, got)
		}
	})
}
