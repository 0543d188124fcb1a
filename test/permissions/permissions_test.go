// Package permissions_test tests nats.conf: each service can do its work under its own
// user, and nothing else.
package permissions_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/services/analytics"
	"example.org/ordertrail/services/fulfillment"
	"example.org/ordertrail/services/inventory"
	"example.org/ordertrail/services/notify"
	"example.org/ordertrail/services/orders"
	"example.org/ordertrail/services/payments"
	"example.org/ordertrail/test/systemtest"
)

var users = []string{admin, operator, orders.Name, payments.Name, inventory.Name, fulfillment.Name, notify.Name, analytics.Name}

// mayPublish reports whether a user needs to publish to a subject. It is written
// independently of nats.conf, and the two must agree.
func mayPublish(user, subject string) bool {
	t, key, err := event.ParseSubject(subject)
	if err != nil {
		t = ""
	}
	deadLetterOf, _, isDeadLetter := event.CutDeadLetter(subject)
	durablesOf := map[string][]string{
		orders.Name: {stream.DeadlinesStream}, payments.Name: {stream.OrdersStream}, fulfillment.Name: {stream.OrdersStream},
		notify.Name: {stream.OrdersStream, stream.MailsStream},
	}
	ofDurable := func(format string) bool { // of its own
		return slices.ContainsFunc(durablesOf[user], func(s string) bool { return strings.HasPrefix(subject, fmt.Sprintf(format, s, user)) })
	}
	folds := slices.Contains([]string{operator, orders.Name, inventory.Name, analytics.Name}, user)
	api, _ := strings.CutPrefix(subject, "$JS.API.")

	switch {
	case user == admin:
		for _, s := range []string{"ORDERS", "DEADLINES", "MAILS", "DEADLETTERS", "KV_LEASES", "KV_ANALYTICS", "KV_STOCK"} {
			if api == "STREAM.CREATE."+s || api == "STREAM.UPDATE."+s || api == "STREAM.INFO."+s {
				return true
			}
		}
		for _, d := range []string{"ORDERS.payments", "ORDERS.fulfillment", "ORDERS.notify", "MAILS.notify", "DEADLINES.orders"} {
			if api == "CONSUMER.CREATE."+d || api == "CONSUMER.INFO."+d {
				return true
			}
		}
		return api == "INFO"

	// Events: its own.
	case t == event.DeadlineAt:
		return user == orders.Name
	case t == event.DeadlineDue: // the server; the operator, to send a dead letter again
		return user == operator
	case strings.HasPrefix(string(t), "mails.at."):
		return user == notify.Name
	case strings.HasPrefix(string(t), "mails.due."): // the server; the operator, to send a dead letter again
		return user == operator
	case t == event.StockLease:
		return user == inventory.Name && key == event.LeaseKey
	case t == event.StockAdded:
		return user == inventory.Name || user == operator
	case t != "":
		return user == t.Domain()
	case isDeadLetter:
		return user == deadLetterOf && durablesOf[user] != nil
	case strings.HasPrefix(subject, "redrive."):
		return user == operator && strings.Count(subject, ".") == 4

	// Its durable.
	case strings.HasPrefix(subject, "$JS.ACK."):
		return ofDurable("$JS.ACK.%s.%s.")
	case ofDurable("$JS.API.CONSUMER.INFO.%s.%s"), ofDurable("$JS.API.CONSUMER.MSG.NEXT.%s.%s"):
		return true

	// Ordered consumers, which have random names.
	case folds && regexp.MustCompile(`^CONSUMER\.(CREATE|MSG\.NEXT|DELETE)\.ORDERS\.[^.]+$`).MatchString(api):
		return !slices.Contains([]string{payments.Name, fulfillment.Name, notify.Name}, api[strings.LastIndex(api, ".")+1:])

	// History.
	case api == "DIRECT.GET.ORDERS", api == "STREAM.INFO.ORDERS":
		return true
	case api == "STREAM.MSG.GET.ORDERS":
		return user == notify.Name || user == operator
	case api == "STREAM.MSG.GET.MAILS":
		return user == notify.Name

	// Dead letters.
	case durablesOf[user] != nil && regexp.MustCompile(`^DIRECT\.GET\.DEADLETTERS\.deadletters\.`+user+`\.[^.]+$`).MatchString(api):
		return true
	case slices.Contains([]string{"STREAM.INFO.DEADLETTERS", "STREAM.MSG.DELETE.DEADLETTERS", "DIRECT.GET.DEADLETTERS"}, api),
		regexp.MustCompile(`^DIRECT\.GET\.DEADLETTERS\.deadletters\.[^.]+\.[^.]+$`).MatchString(api):
		return user == operator

	// Buckets.
	case api == "STREAM.INFO.KV_LEASES", api == "DIRECT.GET.KV_LEASES.$KV.LEASES.inventory", subject == "$KV.LEASES.inventory":
		return user == inventory.Name
	case api == "STREAM.INFO.KV_STOCK", api == "DIRECT.GET.KV_STOCK.$KV.STOCK.inventory", subject == "$KV.STOCK.inventory":
		return user == inventory.Name
	case api == "STREAM.INFO.KV_ANALYTICS", api == "DIRECT.GET.KV_ANALYTICS.$KV.ANALYTICS.analytics", subject == "$KV.ANALYTICS.analytics":
		return user == analytics.Name || user == operator
	}
	return false
}

// probes are the subjects that are tried: every event, every verb of JetStream's
// API on every stream and consumer, and every subject in nats.conf.
func probes(o *server.Options) (subjects []string) {
	id := event.NewOrderID()
	types := append(slices.Clone(event.OfOrder), event.DeadlineAt, event.DeadlineDue, event.StockAdded, event.StockLease)
	for _, t := range event.OfMail {
		types = append(types, event.MailAt(t), event.MailDue(t))
	}
	for _, t := range types {
		subjects = append(subjects, t.Subject(id), t.Subject(id)+".more", event.Redrive("payments", t.Subject(id)), event.DeadLetter(t.Domain(), "1"))
		for _, invented := range []string{"invented", "confirmed", "created"} { // of another domain
			if s := t.Domain() + "." + invented + "." + id; !slices.Contains(event.OfOrder, event.Type(t.Domain()+"."+invented)) {
				subjects = append(subjects, s)
			}
		}
	}
	names := append(slices.Clone(users), "Xrandom_1")
	for _, s := range []string{"ORDERS", "DEADLINES", "MAILS", "DEADLETTERS", "KV_LEASES", "KV_ANALYTICS", "KV_STOCK", "OTHER"} {
		for _, verb := range []string{
			"STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.GET", "STREAM.MSG.DELETE",
			"STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.PEER.REMOVE", "STREAM.LEADER.STEPDOWN", "DIRECT.GET",
			"CONSUMER.CREATE", "CONSUMER.LIST", "CONSUMER.NAMES",
		} {
			subjects = append(subjects, "$JS.API."+verb+"."+s, "$JS.API."+verb+"."+s+".more")
		}
		for _, c := range names {
			for _, verb := range []string{
				"CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT", "CONSUMER.PAUSE",
				"CONSUMER.UNPIN", "CONSUMER.RESET", "CONSUMER.LEADER.STEPDOWN",
			} {
				subjects = append(subjects, "$JS.API."+verb+"."+s+"."+c)
			}
			subjects = append(subjects, "$JS.API.CONSUMER.CREATE."+s+"."+c+".payments.confirmed.*", "$JS.ACK."+s+"."+c+".1.1.1.1.1")
		}
	}
	for _, bucket := range []string{"LEASES", "ANALYTICS", "STOCK"} {
		for _, key := range append([]string{"other"}, users...) {
			subjects = append(subjects, "$KV."+bucket+"."+key, "$JS.API.DIRECT.GET.KV_"+bucket+".$KV."+bucket+"."+key)
		}
	}
	for _, u := range append([]string{"unknown"}, users...) {
		subjects = append(subjects, inbox(u)+"x.y")
	}
	subjects = append(subjects, "$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.SERVER.REMOVE", "$JS.API.META.LEADER.STEPDOWN",
		"$JS.EVENT.ADVISORY.API", "$JS.FC.x", "$SYS.REQ.SERVER.PING", "$SRV.PING", "anything", "anything.else")
	// For each rule, subjects that match it, of three lengths: a rule that is too wide
	// allows subjects that no user needs.
	for _, u := range o.Users {
		for _, rule := range u.Permissions.Publish.Allow {
			for _, more := range []string{"x", "payments", "x.y"} {
				s := strings.ReplaceAll(rule, "*", id)
				subjects = append(subjects, strings.TrimSuffix(s, ">")+map[bool]string{true: more}[strings.HasSuffix(s, ">")])
			}
		}
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

var (
	refusedPublish   = regexp.MustCompile(`(?i)permissions violation for publish to "([^"]+)"`)
	refusedSubscribe = regexp.MustCompile(`(?i)permissions violation for subscription to "([^"]+)"`)
)

// refusals has a user do something with each subject, and returns which of them
// the server refused.
func refusals(t *testing.T, s testServer, user string, subjects []string, refused *regexp.Regexp, do func(nc *nats.Conn, subject string) error) map[string]bool {
	t.Helper()
	found := make(chan string, 2*len(subjects)+2)
	nc := s.connect(t, user, nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if m := refused.FindStringSubmatch(err.Error()); m != nil {
			found <- m[1]
		}
	}))
	// The last one is refused to everybody: with it all answers are there.
	const last = "none.may"
	for _, subject := range append(slices.Clone(subjects), last) {
		if err := do(nc, subject); err != nil {
			t.Fatalf("%s: %s: %v", user, subject, err)
		}
	}
	denied := map[string]bool{}
	for timeout := time.After(systemtest.Patience); ; {
		select {
		case subject := <-found:
			if subject == last {
				return denied
			}
			denied[subject] = true
		case <-timeout:
			t.Fatalf("%s: the server has not answered: %v", user, nc.LastError())
		}
	}
}

// Each user may publish what it needs, and nothing else.
func TestPublish(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	subjects := probes(s.options)
	for _, user := range users {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			denied := refusals(t, s, user, subjects, refusedPublish, func(nc *nats.Conn, subject string) error {
				return nc.Publish(subject, nil)
			})
			allowed := 0
			for _, subject := range subjects {
				if mayPublish(user, subject) == denied[subject] {
					t.Errorf("publish to %s: refused %v, want %v", subject, denied[subject], !denied[subject])
				}
				if !denied[subject] {
					allowed++
				}
			}
			t.Logf("%d of %d subjects are allowed", allowed, len(subjects))
			if allowed == 0 || allowed > 70 {
				t.Errorf("%d subjects are allowed: the probes say nothing", allowed)
			}
		})
	}
}

// Each user may read its own answers, and nothing else.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	s := start(t, "../../nats/nats.conf")
	subjects := append(probes(s.options), ">", "*", "*.>", "*.*.*", "_INBOX.>", "_INBOX.*.x", "orders.>", "$JS.>", "$JS.API.>", "$JS.ACK.>",
		"$JS.EVENT.>", "$KV.>", "$KV.ANALYTICS.>", "$SYS.>", "deadletters.>", "redrive.>")
	for _, u := range append([]string{"unknown"}, users...) {
		subjects = append(subjects, inbox(u)+"*", inbox(u)+">", strings.TrimSuffix(inbox(u), "."))
	}
	for _, u := range s.options.Users {
		subjects = append(subjects, u.Permissions.Subscribe.Allow...)
	}
	slices.Sort(subjects)
	subjects = slices.Compact(subjects)
	for _, user := range users {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			denied := refusals(t, s, user, subjects, refusedSubscribe, func(nc *nats.Conn, subject string) error {
				_, err := nc.Subscribe(subject, func(*nats.Msg) {})
				return err
			})
			for _, subject := range subjects {
				if want := !strings.HasPrefix(subject, inbox(user)); denied[subject] != want {
					t.Errorf("subscribe to %s: refused %v, want %v", subject, denied[subject], want)
				}
			}
		})
	}
}
