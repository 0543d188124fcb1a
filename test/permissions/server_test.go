package permissions_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

const (
	admin    = "admin"
	operator = "operator"
	spy      = "spy" // the test's own user, without limits
)

// password is the one in passwords.conf.
func password(user string) string { return "demo-" + user }

// testServer is a server that runs on nats.conf.
type testServer struct {
	url     string
	options *server.Options // as the file has them
}

// start runs a server on the very file, with a store and ports of the test's own,
// and one more user.
func start(t testing.TB, config string) testServer {
	t.Helper()
	asWritten, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.HTTPPort = "127.0.0.1", server.RANDOM_PORT, 0
	o.StoreDir, o.NoSigs, o.NoLog = t.TempDir(), true, true
	o.Users = append(o.Users, &server.User{Username: spy, Password: password(spy)})
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(systemtest.Patience) {
		t.Fatal("the server is not ready")
	}
	return testServer{s.ClientURL(), asWritten}
}

// connect connects as a user, whose inbox is the one that the services use.
func (s testServer) connect(t testing.TB, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := s.dial(user, opts...)
	if err != nil {
		t.Fatalf("connect as %s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (s testServer) dial(user string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(s.url, append([]nats.Option{
		nats.UserInfo(user, password(user)), nats.CustomInboxPrefix(strings.TrimSuffix(inbox(user), ".")),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // by default the library prints errors
	}, opts...)...)
}

// everything is the stream of orders, as the test sees it.
func (s testServer) everything(t testing.TB) (jetstream.JetStream, jetstream.Stream) {
	t.Helper()
	js, err := jetstream.New(s.connect(t, spy))
	if err != nil {
		t.Fatal(err)
	}
	in, err := js.Stream(t.Context(), stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	return js, in
}

// inbox is the prefix of a user's reply subjects.
func inbox(user string) string {
	if user == admin {
		user = "provision"
	}
	return "_INBOX." + user + "."
}
