package orders_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// switchable is a server that can be stopped and started again on its store. Its
// connections reconnect.
type switchable struct {
	dir string

	mu     sync.Mutex
	server *server.Server
}

func newSwitchable(tb testing.TB) *switchable {
	tb.Helper()
	s := &switchable{dir: tb.TempDir()}
	s.Start(tb)
	tb.Cleanup(s.Stop)
	return s
}

func (s *switchable) Start(tb testing.TB) {
	tb.Helper()
	started, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: s.dir, NoSigs: true, NoLog: true})
	if err != nil {
		tb.Fatal(err)
	}
	started.Start()
	if !started.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the server is not ready")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = started
}

func (s *switchable) Stop() {
	s.mu.Lock()
	stopped := s.server
	s.server = nil
	s.mu.Unlock()
	if stopped != nil {
		stopped.Shutdown()
		stopped.WaitForShutdown()
	}
}

// InProcessConn connects to the running server. nats.InProcessServer calls it.
func (s *switchable) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil, errors.New("the server is stopped")
	}
	return s.server.InProcessConn()
}

func (s *switchable) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(opts, nats.InProcessServer(s))...)
}
