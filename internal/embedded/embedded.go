// Package embedded runs a NATS server inside the process: for `go run .`, and for
// tests. It is the real server with a real file store; only the network is left
// out.
package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startTimeout is how long a server may take to restore its store and be ready.
const startTimeout = 30 * time.Second

// Server is a running server.
type Server struct {
	dir    string
	listen *net.TCPAddr                  // nil: within the process only
	server atomic.Pointer[server.Server] // clients dial while it restarts
	lock   *flock.Flock
	temp   string // removed at the end; "" for a store that stays
}

// ErrInUse is returned by Start for a store that another server has open.
var ErrInUse = errors.New("the store is in use by another process")

// Option changes a Server.
type Option func(*Server)

// Listen lets clients of other processes connect at a TCP address, too. Nobody
// asks them who they are: let it be one of loopback.
func Listen(addr *net.TCPAddr) Option { return func(s *Server) { s.listen = addr } }

// Start runs a server on a store directory, which is made if it is missing. With
// dir "" the store is a temporary one, removed by Close.
func Start(dir string, opts ...Option) (*Server, error) {
	s := &Server{dir: dir}
	for _, o := range opts {
		o(s)
	}
	if dir == "" {
		temp, err := os.MkdirTemp("", "ordertrail-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary store: %w", err)
		}
		s.temp, s.dir = temp, temp
	}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	// The server itself does not notice a second one on its store: both would hand
	// out the same sequences.
	s.lock = flock.New(filepath.Join(s.dir, "ordertrail.lock"))
	locked, err := s.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock the store %s: %w", s.dir, err)
	}
	if !locked {
		return fmt.Errorf("%w: %s: stop that process, or use another directory", ErrInUse, s.dir)
	}
	return s.start()
}

func (s *Server) start() error {
	o := &server.Options{
		ServerName: "ordertrail",
		DontListen: s.listen == nil,
		JetStream:  true,
		StoreDir:   s.dir,
		NoSigs:     true,
		NoLog:      true,
		// Acks come before the data is on disk for sure; a demo can afford a second.
		SyncInterval: time.Second,
	}
	if s.listen != nil {
		o.Host, o.Port = s.listen.IP.String(), s.listen.Port
		if s.listen.IP == nil {
			o.Host = "127.0.0.1"
		}
		// The server itself would wait in vain.
		l, err := net.ListenTCP("tcp", s.listen)
		if err != nil {
			return fmt.Errorf("listen for NATS clients: %w", err)
		}
		if err := l.Close(); err != nil {
			return err
		}
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
	}
	running, err := run(o)
	if err != nil {
		return err
	}
	s.server.Store(running)
	return nil
}

// run starts a server and waits until clients can connect.
func run(o *server.Options) (*server.Server, error) {
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		stop(s)
		return nil, fmt.Errorf("start NATS: not ready within %v", startTimeout)
	}
	return s, nil
}

// stop ends a server and waits until its store is closed.
func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// Connect opens a connection within the process. It outlives Restart if its
// options let it reconnect often enough.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append([]nats.Option{nats.InProcessServer(s)}, opts...)...)
}

// URL is where clients of other processes connect; see Listen.
func (s *Server) URL() string { return s.server.Load().ClientURL() }

// InProcessConn is what nats.InProcessServer dials. It fails while the server
// restarts.
func (s *Server) InProcessConn() (net.Conn, error) { return s.server.Load().InProcessConn() }

// Restart stops the server and starts it again on the same store. The stop is an
// orderly one, which loses nothing: less than a crash, after which acks that were
// not written yet are forgotten.
func (s *Server) Restart() error {
	stop(s.server.Load())
	return s.start()
}

// Close stops the server and waits until its store is closed.
func (s *Server) Close() {
	if running := s.server.Load(); running != nil {
		stop(running)
	}
	if s.lock != nil {
		_ = s.lock.Close() // the file stays, so that the lock is always on the same one
	}
	if s.temp != "" {
		_ = os.RemoveAll(s.temp)
	}
}
