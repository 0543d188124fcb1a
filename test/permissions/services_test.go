package permissions_test

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

// asItself connects each service as its own user, and the administrator as admin.
func (s testServer) asItself(opts ...nats.Option) (*nats.Conn, error) {
	o := nats.GetDefaultOptions()
	for _, set := range opts {
		if err := set(&o); err != nil {
			return nil, err
		}
	}
	user := strings.TrimPrefix(o.Name, "ordertrail ")
	if user == "administrator" {
		user = admin
		opts = append(opts, nats.CustomInboxPrefix(strings.TrimSuffix(inbox(admin), ".")))
	}
	return nats.Connect(s.url, append(opts, nats.UserInfo(user, password(user)))...)
}

// run runs the whole system on s, and returns its log with it. The mail server takes each
// mail at the second attempt.
func run(t *testing.T, s testServer) (*systemtest.System, *systemtest.Output) {
	t.Helper()
	log := new(systemtest.Output)
	world := systemtest.NewWorld()
	var refused sync.Map
	world.Before = func(_ context.Context, effect, mail string) error {
		if _, again := refused.LoadOrStore(mail, true); effect == "mail" && !again {
			return errors.New("greylisted")
		}
		return nil
	}
	sys := systemtest.StartOn(t, s.asItself, systemtest.Deadline(5*time.Second), func(cfg *systemtest.Config) {
		cfg.Log = slog.NewTextHandler(log, nil)
		cfg.Wire = map[string]service.Wire{notify.Name: func(rt *service.Runtime) (service.Part, error) {
			return notify.NewWithRetries(rt, world, notify.Retries{Pauses: []time.Duration{time.Millisecond}, For: time.Minute}), nil
		}}
	})
	return sys, log
}

// watch returns every message that any client sends to s.
func watch(t *testing.T, s testServer) (sent func() []*nats.Msg) {
	t.Helper()
	var mu sync.Mutex
	var all []*nats.Msg
	nc := s.connect(t, spy)
	sub, err := nc.Subscribe(">", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasPrefix(m.Subject, "_INBOX.") {
			all = append(all, m)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() []*nats.Msg {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// publisher returns the user that sent a message: its reply subject names the user or, of
// an ack, which has none, its subject names the consumer.
func publisher(m *nats.Msg) string {
	if rest, ok := strings.CutPrefix(m.Subject, "$JS.ACK."); ok {
		return strings.Split(rest, ".")[1]
	}
	for _, u := range users {
		if strings.HasPrefix(m.Reply, inbox(u)) {
			return u
		}
	}
	return ""
}

// matches reports whether a rule allows a subject.
func matches(rule, subject string) bool {
	pattern := regexp.QuoteMeta(rule)
	pattern = strings.ReplaceAll(pattern, `\*`, `[^.]+`)
	if p, ok := strings.CutSuffix(pattern, ">"); ok {
		pattern = p + ".+"
	}
	return regexp.MustCompile("^" + pattern + "$").MatchString(subject)
}

var refused = regexp.MustCompile(`(?im)^.*permissions violation.*$`)

// runtime returns the runtime of a process of that user, and its log.
func (s testServer) runtime(t *testing.T, user string) (*service.Runtime, *systemtest.Output) {
	t.Helper()
	log := new(systemtest.Output)
	rt, err := service.NewRuntime(context.Background(), service.Config{
		Name: user, Log: slog.NewTextHandler(log, nil), Connect: s.asItself,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	return rt, log
}

// Every scenario comes to its end and every command of the operator's works,
// each under its own user; nothing is refused, and no permission is for nothing.
func TestServices(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	sent := watch(t, s)
	sys, log := run(t, s)
	t.Run("scenarios", func(t *testing.T) {
		for _, sc := range demo.Scenarios() {
			t.Run(sc.Name, func(t *testing.T) {
				t.Parallel()
				if _, err := systemtest.Play(context.Background(), sys.Shop, sc); err != nil {
					t.Error(err)
				}
			})
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), systemtest.Patience)
	defer cancel()
	systemtest.Until(t, "analytics has counted", func() bool {
		a := systemtest.GetAnalytics(t, sys.URL).Orders
		return a.Shipped+a.Cancelled == len(demo.Scenarios())
	})

	// Each consumer gives up something, so that each has a dead letter.
	id := event.NewOrderID()
	unlimited := s.connect(t, spy)
	js, err := jetstream.New(unlimited)
	if err != nil {
		t.Fatal(err)
	}
	storeOldLetters(t, js)
	damages := map[string]string{"orders.created.": `"items":"?"`, "orders.cancelled.": `"reason":"customer"`, "deadlines.due.": `"due":"?"`}
	for _, sent := range event.OfMail {
		damages[event.MailDue(sent).Subject("")] = `"since":"?"`
	}
	for subject, payload := range damages {
		subject += id
		damaged := &nats.Msg{Subject: subject, Header: nats.Header{"ce-id": {subject}}, Data: []byte(`{"order_id":"` + id + `",` + payload + `}`)}
		if err := unlimited.PublishMsg(damaged); err != nil {
			t.Fatal(err)
		}
	}

	rt, operatorsLog := s.runtime(t, operator)
	var letters []stream.DeadLetter
	systemtest.Until(t, "there are dead letters of every consumer", func() bool {
		var err error
		if letters, err = rt.Stream.DeadLetters(ctx); err != nil {
			t.Fatal(err)
		}
		consumers, subjects := map[string]bool{}, map[string]bool{}
		for _, l := range letters {
			if strings.HasSuffix(l.Subject, id) {
				consumers[l.Stream+" "+l.Consumer], subjects[l.Subject] = true, true
			}
		}
		return len(consumers) == len(app.Durables()) && len(subjects) == len(damages)
	})
	for _, l := range letters {
		if l.Stream == "" {
			continue // one of storeOldLetters
		}
		if err := rt.Stream.Redrive(ctx, l.ID); err != nil {
			t.Errorf("redrive: %v", err)
		}
	}
	if err := inventory.Restock(ctx, rt.Stream, catalog.Products()[0].SKU, 1); err != nil {
		t.Error(err)
	}
	if result, err := analytics.Replay(ctx, rt); err != nil || len(result.Differences) > 0 {
		t.Errorf("replay: %v, %v", result, err)
	}

	// A second replica finds the work of the first, health checks find the stream, and a
	// fold goes on when its ordered consumer is deleted.
	for _, user := range users[2:] {
		if _, err := sys.Run(ctx, user); err != nil {
			t.Error(err)
		}
		rt, _ := s.runtime(t, user)
		if err := rt.Ready(ctx); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	following, stop := context.WithCancel(ctx)
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	first := make(chan struct{}, 1000)
	busy.Go(func() {
		err := rt.Stream.Follow(following, analytics.Consumes, stream.Position{}, func(jetstream.Msg) error { first <- struct{}{}; return nil })
		if err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	<-first
	loseOrderedConsumers(t, js)
	used := func(user, rule string) bool {
		return slices.ContainsFunc(sent(), func(m *nats.Msg) bool { return matches(rule, m.Subject) && publisher(m) == user })
	}
	for _, user := range []string{operator, orders.Name, inventory.Name, analytics.Name} {
		systemtest.Until(t, user+" deletes its old consumer", func() bool { return used(user, "$JS.API.CONSUMER.DELETE.ORDERS.*") })
	}
	if err := sys.Replica(inventory.Name, 0).Stop(ctx); err != nil { // the standby finds the stock seeded
		t.Error(err)
	}
	if _, err := demo.Play(ctx, sys.Shop, demo.Scenarios()[0]); err != nil {
		t.Errorf("with new consumers and another inventory: %v", err)
	}

	if lines := refused.FindAllString(log.String()+operatorsLog.String(), -1); lines != nil {
		t.Errorf("refused:\n%s", strings.Join(lines, "\n"))
	}
	for _, u := range s.options.Users {
		for _, rule := range u.Permissions.Publish.Allow {
			if !used(u.Username, rule) {
				t.Errorf("%s may publish to %s, and need not", u.Username, rule)
			}
		}
	}
}

// storeOldLetters stores dead letters from a stream that was replaced, on the subjects of
// the next ones. The services read them, and store theirs nevertheless.
func storeOldLetters(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	ctx := context.Background()
	for _, d := range app.Durables() {
		in, err := js.Stream(ctx, d.Stream)
		if err != nil {
			t.Fatal(err)
		}
		const next = 20 // other events come between
		for i := range uint64(next) {
			subject := event.DeadLetter(d.Name, strconv.FormatUint(in.CachedInfo().State.LastSeq+1+i, 10))
			if _, err := js.Publish(ctx, subject, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// loseOrderedConsumers deletes all consumers that are no durables.
func loseOrderedConsumers(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	ctx := context.Background()
	in, err := js.Stream(ctx, stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	found := in.ListConsumers(ctx)
	for info := range found.Info() {
		if info.Config.Durable == "" {
			if err := in.DeleteConsumer(ctx, info.Name); err != nil {
				t.Error(err)
			}
		}
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
}

// A publish that the server refuses fails, and the log names the subject and the user.
func TestRefusalIsLogged(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	_, _ = run(t, s)
	rt, log := s.runtime(t, payments.Name)
	id := event.NewOrderID()
	shipped := event.Draft{Type: event.FulfillmentShipped, Payload: event.Conclusion{OrderKey: event.OrderKey{OrderID: id}}}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := rt.Stream.PublishOnce(ctx, shipped, stream.First(event.FulfillmentShipped, id)); err == nil {
		t.Error("payments published fulfillment.shipped")
	}
	want := regexp.MustCompile(`level=ERROR msg="NATS refuses what this user may not do: see nats/nats.conf" service=payments user=\S* error=".*Publish to \\"fulfillment\.shipped\.` + id)
	if !want.MatchString(log.String()) {
		t.Errorf("the log does not name it:\n%s", log)
	}
}
