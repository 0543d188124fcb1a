// Package embedded runs a NATS server inside the process: for `go run .`, and for
// tests. It is the real server with a real file store; only the network is left
// out.
package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startTimeout is how long a server may take to restore its store and be ready.
const startTimeout = 30 * time.Second

// Server is a running server.
type Server struct {
	server *server.Server
	lock   *flock.Flock
	temp   string // removed at the end; "" for a store that stays
}

// ErrInUse is returned by Start for a store that another server has open.
var ErrInUse = errors.New("the store is in use by another process")

// Start runs a server without a network on a store directory, which is made if it
// is missing. With dir "" the store is a temporary one, removed by Close.
func Start(dir string) (*Server, error) {
	s := &Server{}
	if dir == "" {
		temp, err := os.MkdirTemp("", "ordertrail-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary store: %w", err)
		}
		s.temp, dir = temp, temp
	}
	if err := s.open(dir); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	// The server itself does not notice a second one on its store: both would hand
	// out the same sequences.
	s.lock = flock.New(filepath.Join(dir, "ordertrail.lock"))
	locked, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the store %s: %w", dir, err)
	}
	if !locked {
		return fmt.Errorf("%w: %s: stop that process, or use another directory", ErrInUse, dir)
	}
	return s.run(&server.Options{
		ServerName: "ordertrail",
		DontListen: true,
		JetStream:  true,
		StoreDir:   dir,
		NoSigs:     true,
		NoLog:      true,
		// Acks come before the data is on disk for sure; a demo can afford a second.
		SyncInterval: time.Second,
	})
}

func (s *Server) run(o *server.Options) (err error) {
	if s.server, err = server.NewServer(o); err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	s.server.Start()
	if !s.server.ReadyForConnections(startTimeout) {
		return fmt.Errorf("start NATS: not ready within %v", startTimeout)
	}
	return nil
}

// Connect opens a connection within the process.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(opts, nats.InProcessServer(s.server))...)
}

// Close stops the server and waits until its store is closed.
func (s *Server) Close() {
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
	if s.lock != nil {
		_ = s.lock.Close() // the file stays, so that the lock is always on the same one
	}
	if s.temp != "" {
		_ = os.RemoveAll(s.temp)
	}
}
